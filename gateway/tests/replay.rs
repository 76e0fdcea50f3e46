//! What streams have missed is read from the table: by bounded queries, and
//! whatever a right, a row or a lock does to them.

use std::sync::Arc;

use notify_gateway::{
    cursor::Cursor,
    notification::UserId,
    postgres::{
        connector::Connector,
        store::{Channels, PostgresStore},
    },
    store::{PageRequest, Store as _, Transaction as _},
};
use uuid::Uuid;

use crate::support::{Database, Process, TestGateway, config, eventually, request};

async fn start(database: &Database) -> (TestGateway, Uuid, String) {
    let gateway = TestGateway::start(&database.url, &["--sweep-interval", "100ms"]).await;
    let user = Uuid::new_v4();
    let cursor = gateway.cursor(user).await;
    (gateway, user, cursor)
}

/// The sweep does not read this column.
const REVOKE: &str = "REVOKE SELECT ON notify_gateway.event FROM notify_gateway;
    GRANT SELECT (xact_id, seq, user_id) ON notify_gateway.event TO notify_gateway";
const GRANT: &str = "GRANT SELECT ON notify_gateway.event TO notify_gateway";

#[tokio::test]
async fn a_right_that_is_missing_is_said_once_and_streams_go_on_when_it_is_given() {
    let database = Database::new().await;
    let process = Process::start(&database.url, &["--user-connect-rate", "0"]).await;
    let user = Uuid::new_v4();
    let mut first = crate::support::EventSource::open(process.address, user).await;
    let cursor = first.next().await.id.unwrap();
    database.insert(user, "missed").await;
    assert_eq!(first.titles(1).await.0, ["missed"]);
    database.psql(REVOKE).await;

    let bearer = format!("Bearer {}", crate::support::token(user));
    let headers = [("authorization", bearer.as_str()), ("last-event-id", cursor.as_str())];
    let mut streams = Vec::new();
    for _ in 0..20 {
        let target = notify_gateway::http::STREAM_PATH;
        let mut stream =
            crate::support::EventSource::open_with(process.address, target, &headers).await;
        assert_eq!(stream.next().await.name, "connected");
        streams.push(stream);
    }
    let strict = async || request(process.admin, "GET", "/readyz?strict", &[]).await;
    eventually("it is degraded", async || {
        let response = strict().await;
        response.status == 503 && response.text().await.contains("permission denied")
    })
    .await;
    // For load balancers it is as good as before.
    assert_eq!(request(process.admin, "GET", "/readyz", &[]).await.status, 200);
    database.psql(GRANT).await;
    for stream in &mut streams {
        assert_eq!(stream.titles(1).await.0, ["missed"]);
    }
    eventually("it is well again", async || strict().await.status == 200).await;
    let told = process.log().matches("permission denied").count();
    assert_eq!(told, 1, "one line for one cause:\n{}", process.log());
}

#[tokio::test]
async fn an_outage_that_nobody_waits_for_the_end_of_ends_all_the_same() {
    let database = Database::new().await;
    let (gateway, user, cursor) = start(&database).await;
    database.insert(user, "missed").await;
    database.psql(REVOKE).await;
    let stream = gateway.resume(user, &cursor).await;
    eventually("it is degraded", async || {
        let (status, said) = gateway.readyz_strict().await;
        status == 503 && said.contains("permission denied")
    })
    .await;
    drop(stream);
    database.psql(GRANT).await;
    eventually("it is well again", async || gateway.readyz_strict().await.0 == 200).await;
}

#[tokio::test]
async fn a_table_that_is_locked_opens_the_breaker() {
    let database = Database::new().await;
    let (gateway, user, cursor) = start(&database).await;
    database.insert(user, "missed").await;
    let locker = database.session().await;
    locker
        .batch_execute("BEGIN; LOCK TABLE notify_gateway.event IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let mut stream = gateway.resume(user, &cursor).await;
    eventually("replays wait, and it is said", async || {
        gateway.readyz_strict().await.1.contains("replays wait")
    })
    .await;
    locker.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(stream.titles(1).await.0, ["missed"]);
}

#[tokio::test]
async fn an_answer_for_many_streams_is_bounded_in_bytes_and_none_of_them_is_forgotten() {
    let database = Database::new().await;
    let (_gateway, user, cursor) = start(&database).await;
    let cursor = Cursor::parse(&cursor).unwrap();
    let users: Vec<Uuid> = (0..40).map(|_| Uuid::new_v4()).collect();
    for user in users.iter().chain([&user]) {
        // Stored, the one takes up as much as it is sent as, the other a hundredth.
        let insert = format!(
            "INSERT INTO notifications (user_id, title, message, metadata)
             SELECT '{user}', n, CASE n WHEN 1 THEN repeat('x', 500000) ELSE 'm' END,
                    CASE n WHEN 2 THEN jsonb_build_object('x', repeat('x', 500000)) ELSE '{{}}' END
             FROM generate_series(1, 2) n"
        );
        database.client.batch_execute(&insert).await.unwrap();
    }
    let config = config(&database.url, &[]);
    let connector = Arc::new(Connector::new(config.database));
    let channels = Channels { events: "notifications".into(), probes: "probes".into() };
    let store = PostgresStore::new(connector, 3, channels).unwrap();
    let ids: Vec<UserId> = users.iter().copied().map(UserId::uuid).collect();
    let requests: Vec<_> = ids.iter().map(|user| PageRequest { user, cursor: &cursor }).collect();
    let mut transaction = store.begin().await.unwrap();
    let pages = transaction.pages(&requests).await.unwrap().pages;
    let bytes: usize =
        pages.iter().flatten().flat_map(|page| &page.rows).map(|row| row.row.event.len()).sum();
    assert!(bytes < 6 * 1024 * 1024, "{bytes} bytes in one answer");
    let answered = pages.iter().filter(|page| page.is_some()).count();
    assert!(answered >= 4 && pages[..answered].iter().all(Option::is_some), "{answered}");
    // Each has two, and says that there is more.
    assert!(pages.iter().flatten().all(|page| page.rows.len() == 1 && page.more));
    transaction.commit().await.unwrap();
}
