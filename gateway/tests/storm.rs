//! A storm of reconnects is a few queries, and nothing is lost in it.

use notify_gateway::limits;
use uuid::Uuid;

use crate::support::{Database, EventSource, TestGateway};

/// How many streams; with two files each in this one process, 5,000 need a
/// limit of 10,000 open files and more.
fn streams() -> usize {
    let files = usize::try_from(limits::raise_open_files().unwrap()).unwrap_or(usize::MAX);
    let wanted = std::env::var("STORM_STREAMS").ok().and_then(|n| n.parse().ok()).unwrap_or(1000);
    wanted.min(files.saturating_sub(200) / 2)
}

#[tokio::test(flavor = "multi_thread")]
async fn all_streams_cut_at_once_catch_up_by_few_queries_while_rows_are_written() {
    let streams = streams();
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &[]).await;
    let users: Vec<Uuid> = (0..streams).map(|_| Uuid::new_v4()).collect();
    let mut ids = Vec::new();
    let mut open = Vec::new();
    for user in &users {
        let mut stream = EventSource::open(gateway.address, *user).await;
        ids.push(stream.next().await.id.unwrap());
        open.push(stream);
    }
    let queries = async || gateway.metric("notify_gateway_replay_queries_total").await;
    let before = queries().await;
    let list = users.iter().map(|user| format!("'{user}'")).collect::<Vec<_>>().join(",");
    let insert = |titles: &str| {
        format!(
            "INSERT INTO notifications (user_id, title, message)
             SELECT id, n, 'm' FROM unnest(ARRAY[{list}]::uuid[]) id, generate_series({titles}) n"
        )
    };
    drop(open);
    database.client.batch_execute(&insert("1, 2")).await.unwrap();

    // All at once, in the order in which sockets are had; a row for everybody
    // is written in the midst of it.
    let address = gateway.address;
    let reconnecting = users.iter().zip(&ids).map(|(user, id)| {
        let (user, id) = (*user, id.clone());
        tokio::spawn(async move {
            let bearer = format!("Bearer {}", crate::support::token(user));
            let headers = [("authorization", bearer.as_str()), ("last-event-id", id.as_str())];
            let target = notify_gateway::http::STREAM_PATH;
            let mut stream = EventSource::open_with(address, target, &headers).await;
            assert_eq!(stream.next().await.name, "connected");
            let (titles, _) = stream.titles(4).await;
            (titles, stream)
        })
    });
    let reconnecting: Vec<_> = reconnecting.collect();
    let writer = database.session().await;
    for n in [3, 4] {
        writer.batch_execute(&insert(&format!("{n}, {n}"))).await.unwrap();
    }

    let mut all = Vec::with_capacity(streams);
    for task in reconnecting {
        let (titles, stream) = task.await.unwrap();
        assert_eq!(titles, ["1", "2", "3", "4"]);
        all.push(stream);
    }
    let queries = queries().await - before;
    assert!(queries <= 200.0, "{queries} queries for {streams} streams");
    let connections = "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = 'notify-gateway'";
    let connections: i64 = database.psql(connections).await.trim().parse().unwrap();
    assert!(connections <= 8 + 1, "{connections} connections");
    println!("{streams} streams, {queries} replay queries, {connections} connections");
    // Four rows for each and nothing twice, whatever is still on its way.
    let sent = gateway.metric("sse_messages_sent_total{event_type=\"notification\"}").await;
    assert!((sent - 4.0 * streams as f64).abs() < 0.5, "{sent} rows were sent");
    drop(all);
}
