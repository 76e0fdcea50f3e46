//! While nobody is connected and nothing is written, nothing is asked; and the
//! first who comes finds everything as it is now.

use std::time::Duration;

use uuid::Uuid;

use crate::support::{Database, TestGateway, eventually};

/// How many statements the gateway's role has begun, as far as one can see: each
/// that begins changes a row of pg_stat_activity.
async fn activity(database: &Database) -> String {
    database
        .psql(
            "SELECT string_agg(pid || ' ' || query_start, ' ' ORDER BY pid)
             FROM pg_stat_activity WHERE datname = current_database() AND usename = 'bell'",
        )
        .await
}

#[tokio::test]
async fn a_gateway_that_nobody_uses_asks_the_database_nothing() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &["--sweep-interval", "20ms"]).await;
    let user = Uuid::new_v4();
    // Someone came and went, and something was written.
    drop(gateway.connect(user).await);
    database.insert(user, "for later").await;
    eventually("the stream is gone", async || gateway.metric("sse_connections_total").await < 0.5)
        .await;
    // Ten times the interval is how long a gateway takes that has something to finish.
    const QUIET: Duration = Duration::from_secs(1);
    eventually("it rests", async || {
        let before = activity(&database).await;
        tokio::time::sleep(QUIET).await;
        activity(&database).await == before
    })
    .await;

    // And it wakes up: the row of before was committed before this client came.
    let other = Uuid::new_v4();
    let mut stream = gateway.connect(other).await;
    database.insert(other, "now").await;
    assert_eq!(stream.titles(1).await.0, ["now"]);
}

#[tokio::test]
async fn what_was_committed_long_before_the_first_client_came_is_not_brought_to_it() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &[]).await;
    let user = Uuid::new_v4();
    database.insert(user, "old").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut stream = gateway.connect(user).await;
    database.insert(user, "new").await;
    assert_eq!(stream.titles(1).await.0, ["new"]);
}

#[tokio::test]
async fn what_was_committed_just_before_the_first_client_came_is_not_lost() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &[]).await;
    for round in 0..3 {
        let user = Uuid::new_v4();
        let title = format!("between list and stream {round}");
        database.insert(user, &title).await;
        let mut stream = gateway.connect(user).await;
        assert_eq!(stream.titles(1).await.0, [title]);
        drop(stream);
        eventually("it is idle again", async || {
            gateway.metric("sse_connections_total").await < 0.5
        })
        .await;
    }
}
