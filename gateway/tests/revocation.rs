//! Log out everywhere.

use std::time::Duration;

use notify_gateway::http::STREAM_PATH;
use uuid::Uuid;

use crate::support::{Database, TestGateway, eventually, request, token, token_for};

async fn status(gateway: &TestGateway, token: &str) -> u16 {
    let bearer = format!("Bearer {token}");
    request(gateway.address, "GET", STREAM_PATH, &[("authorization", &bearer)]).await.status
}

#[tokio::test]
async fn a_row_ends_the_users_streams_on_every_gateway_and_refuses_older_tokens_from_then_on() {
    let database = Database::new().await;
    let gateways = [
        TestGateway::start(&database.url, &["--sweep-interval", "100ms"]).await,
        TestGateway::start(&database.url, &["--sweep-interval", "100ms"]).await,
    ];
    let (ada, grace) = (Uuid::new_v4(), Uuid::new_v4());
    let old = token(ada);
    let mut ended = [gateways[0].connect(ada).await, gateways[1].connect(ada).await];
    let mut stays = gateways[0].connect(grace).await;

    // In the next second: `iat` knows no fractions.
    database
        .psql(&format!(
            "INSERT INTO notify_gateway.revocation (user_id, before)
             VALUES ('{ada}', date_trunc('second', now()) + interval '1 second'),
                    ('{ada}', now() - interval '1 day')"
        ))
        .await;

    for stream in &mut ended {
        let closing = stream.next().await;
        assert_eq!(closing.name, "closing");
        assert_eq!(closing.json()["reason"], "revoked");
        assert_eq!(stream.next_or_end().await, None);
    }
    assert_eq!(status(&gateways[1], &old).await, 401);
    database.insert(grace, "not touched").await;
    assert_eq!(stays.titles(1).await.0, ["not touched"]);
    // A restart does not forget.
    let restarted = TestGateway::start(&database.url, &[]).await;
    assert_eq!(status(&restarted, &old).await, 401);
    // A new token is as good as ever.
    eventually("a token issued later is accepted", async || {
        status(&restarted, &token_for(ada, Duration::from_secs(60))).await == 200
    })
    .await;
}

#[tokio::test]
async fn a_user_can_be_locked_out_for_good() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &["--sweep-interval", "100ms"]).await;
    let user = Uuid::new_v4();
    let mut stream = gateway.connect(user).await;
    let insert = "INSERT INTO notify_gateway.revocation (user_id, before) VALUES";
    database.psql(&format!("{insert} ('{user}', 'infinity')")).await;
    assert_eq!(stream.next().await.json()["reason"], "revoked");
    assert_eq!(status(&gateway, &token(user)).await, 401);
}

const REVOKE: &str = "INSERT INTO notify_gateway.revocation (user_id, before) VALUES";

#[tokio::test]
async fn an_idle_gateway_knows_of_it_before_it_lets_anyone_in() {
    let database = Database::new().await;
    // It would not look by itself for an hour.
    let gateway = TestGateway::start(&database.url, &["--sweep-interval", "1h"]).await;
    let user = Uuid::new_v4();
    let cursor = gateway.cursor(user).await;
    eventually("nobody is connected", async || gateway.metric("sse_connections_total").await < 0.5)
        .await;
    database.insert(user, "not for the thief").await;
    database.psql(&format!("{REVOKE} ('{user}', 'infinity')")).await;
    let bearer = format!("Bearer {}", token(user));
    let headers = [("authorization", bearer.as_str()), ("last-event-id", &cursor)];
    let response = request(gateway.address, "GET", STREAM_PATH, &headers).await;
    assert_eq!(response.status, 401);
    // Nor is it let in by a look of just now.
    for _ in 0..20 {
        let next = Uuid::new_v4();
        database.psql(&format!("{REVOKE} ('{next}', 'infinity')")).await;
        assert_eq!(status(&gateway, &token(next)).await, 401);
    }
}

#[tokio::test]
async fn a_table_that_is_locked_does_not_hold_it_up() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &["--sweep-interval", "100ms"]).await;
    let user = Uuid::new_v4();
    let mut stream = gateway.connect(user).await;
    let locker = database.session().await;
    locker
        .batch_execute("BEGIN; LOCK TABLE notify_gateway.event IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    database.psql(&format!("{REVOKE} ('{user}', 'infinity')")).await;
    let closing = stream.next_but_heartbeat().await;
    assert_eq!(closing.json()["reason"], "revoked");
    // While the lock is still held.
    locker.batch_execute("ROLLBACK").await.unwrap();
}

#[tokio::test]
async fn a_row_that_is_deleted_or_changed_is_undone() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &["--sweep-interval", "20ms"]).await;
    let (deleted, changed, kept) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    for user in [deleted, changed, kept] {
        database.psql(&format!("{REVOKE} ('{user}', 'infinity')")).await;
        assert_eq!(status(&gateway, &token(user)).await, 401);
    }
    let table = "notify_gateway.revocation";
    database.psql(&format!("DELETE FROM {table} WHERE user_id = '{deleted}'")).await;
    database
        .psql(&format!("UPDATE {table} SET before = '2020-01-01' WHERE user_id = '{changed}'"))
        .await;
    // Somebody has to be connected: else nothing is looked for until someone is.
    let _connected = gateway.connect(Uuid::new_v4()).await;
    for user in [deleted, changed] {
        eventually("it is undone", async || status(&gateway, &token(user)).await == 200).await;
    }
    assert_eq!(status(&gateway, &token(kept)).await, 401);
}
