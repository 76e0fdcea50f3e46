//! A user sees only their own, however many there are.

use uuid::Uuid;

use crate::support::{Database, TestGateway, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_users_each_get_their_own_row_of_one_transaction_and_nobody_elses() {
    const USERS: usize = 1000;
    notify_gateway::limits::raise_open_files().unwrap();
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &[]).await;
    let users: Vec<Uuid> = (0..USERS).map(|_| Uuid::new_v4()).collect();
    let mut streams = Vec::new();
    for user in &users {
        streams.push(gateway.connect(*user).await);
    }
    eventually("all are open", async || gateway.metric("sse_connections_total").await > 999.5)
        .await;

    let list = users.iter().map(|user| format!("'{user}'")).collect::<Vec<_>>().join(",");
    let insert = format!(
        "INSERT INTO notifications (user_id, title, message)
         SELECT id, 'for ' || id, 'm' FROM unnest(ARRAY[{list}]::uuid[]) id"
    );
    database.client.batch_execute(&insert).await.unwrap();
    // A second row each: anything between the two would be somebody else's.
    database.client.batch_execute(&insert.replace("'for '", "'again for '")).await.unwrap();

    for (user, stream) in users.iter().zip(&mut streams) {
        assert_eq!(stream.next_but_heartbeat().await.title(), format!("for {user}"));
        assert_eq!(stream.next_but_heartbeat().await.title(), format!("again for {user}"));
    }
}
