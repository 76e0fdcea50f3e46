//! The database goes away and comes back; nobody has to restart anything.

use notify_gateway::{http::STREAM_PATH, throwaway::Postgres};
use uuid::Uuid;

use crate::support::{
    Database, EventSource, Network, TestGateway, default_schema, eventually, request, token,
};

async fn server() -> Postgres {
    tokio::task::spawn_blocking(|| Postgres::start(&["fsync=off"]).unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_down_at_the_start_is_waited_for() {
    let mut server = server().await;
    let database = Database::new_on(&server).await;
    server.stop().unwrap();

    let gateway = TestGateway::start_unready(&database.url, &[]).await;

    eventually("the reason is told", async || {
        let (status, reasons) = gateway.readyz().await;
        status == 503 && reasons.contains("not listening")
    })
    .await;
    assert_eq!(request(gateway.admin, "GET", "/healthz", &[]).await.status, 200);
    // A status for who can read it; for a browser, which would never come back,
    // a stream that ends with a reason.
    let user = Uuid::new_v4();
    let bearer = format!("Bearer {}", token(user));
    let authorized = ("authorization", bearer.as_str());
    let refused = request(gateway.address, "GET", STREAM_PATH, &[authorized]).await;
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
    let browser = [authorized, ("accept", "text/event-stream")];
    let mut soft = EventSource::open_with(gateway.address, STREAM_PATH, &browser).await;
    let closing = soft.next().await;
    assert_eq!((closing.name.as_str(), closing.id.as_ref()), ("closing", None));
    assert_eq!(closing.json()["reason"], "starting");
    assert!(closing.retry.is_some());
    assert_eq!(soft.next_or_end().await, None);
    // A bad token is a bad token, whatever else is the matter.
    let bad = [("authorization", "Bearer x"), ("accept", "text/event-stream")];
    assert_eq!(request(gateway.address, "GET", STREAM_PATH, &bad).await.status, 401);

    server.start_server().unwrap();
    gateway.ready().await;
    let mut stream = gateway.connect(user).await;
    database
        .psql(&format!(
            "INSERT INTO notifications (user_id, title, message) VALUES ('{user}', 'up', 'm')"
        ))
        .await;
    assert_eq!(stream.next().await.title(), "up");
}

#[tokio::test]
async fn a_terminated_backend_is_replaced_and_delivery_goes_on() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &["--heartbeat", "100ms"]).await;
    let user = Uuid::new_v4();
    let mut stream = gateway.connect(user).await;

    let killed = database
        .psql(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE datname = current_database() AND application_name = 'notify-gateway'",
        )
        .await;
    assert_ne!(killed.trim(), "0");
    eventually("it was noticed", async || {
        gateway.metric("notify_gateway_listen_reconnects_total").await > 0.5
    })
    .await;
    eventually("it listens again", async || gateway.metric("notify_gateway_listen_up").await > 0.5)
        .await;
    database.insert(user, "after").await;

    assert_eq!(stream.next_but_heartbeat().await.title(), "after");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_postgres_leaves_streams_open_and_lets_new_ones_in() {
    let mut server = server().await;
    let database = Database::new_on(&server).await;
    let gateway = TestGateway::start(&database.url, &["--heartbeat", "50ms"]).await;
    let user = Uuid::new_v4();
    let mut before = gateway.connect(user).await;

    server.stop().unwrap();
    eventually("it was noticed", async || gateway.readyz_strict().await.0 == 503).await;
    assert_eq!(before.next().await.name, "heartbeat");
    let mut during = gateway.connect(user).await;
    server.start_server().unwrap();
    gateway.ready().await;
    database
        .psql(&format!(
            "INSERT INTO notifications (user_id, title, message) VALUES ('{user}', 'back', 'm')"
        ))
        .await;

    for stream in [&mut before, &mut during] {
        assert_eq!(stream.next_but_heartbeat().await.title(), "back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_gives_no_answer_at_all_is_told_while_it_is_waited_for() {
    let server = server().await;
    let database = Database::new_on(&server).await;
    let network = Network::to(server.port()).await;
    let gateway = TestGateway::start(&network.url(&database.url), &[]).await;
    let user = Uuid::new_v4();
    let mut stream = gateway.connect(user).await;

    network.freeze();

    // Long before a statement's own time-out.
    eventually("it is said", async || {
        let (status, said) = gateway.readyz_strict().await;
        status == 503 && said.contains("no answer for 3 s")
    })
    .await;
    let (status, said) = gateway.readyz().await;
    assert!(status == 200 && said.contains("\"ready\":true,\"degraded\":true"), "{said}");
    database.insert(user, "meanwhile").await;
    network.thaw();
    assert_eq!(stream.titles(1).await.0, ["meanwhile"]);
    eventually("it is well again", async || gateway.readyz_strict().await.0 == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_listen_from_the_start_streams_are_served_by_the_sweep() {
    let database = Database::new().await;
    let network = Network::to(1).await;
    let direct = network.url(&database.url);
    let flags = ["--listen-database-url", &direct, "--sweep-interval", "100ms"];
    let gateway = TestGateway::start_unready(&database.url, &flags).await;
    eventually("it takes streams", async || gateway.readyz().await.0 == 200).await;
    let (status, said) = gateway.readyz_strict().await;
    assert!(status == 503 && said.contains("listening"), "{said}");
    let user = Uuid::new_v4();
    let mut stream = gateway.connect(user).await;
    database.insert(user, "by the sweep").await;
    assert_eq!(stream.titles(1).await.0, ["by the sweep"]);
}

#[tokio::test]
async fn a_database_without_the_schema_says_what_to_run_and_is_ready_once_it_was() {
    let database = Database::empty().await;
    let gateway = TestGateway::start_unready(&database.url, &[]).await;
    eventually("the remedy is told", async || {
        gateway.readyz().await.1.contains("notify-gateway schema --apply")
    })
    .await;

    database.client.batch_execute(&default_schema()).await.unwrap();

    gateway.ready().await;
    let user = Uuid::new_v4();
    let mut stream = gateway.connect(user).await;
    database.insert(user, "now").await;
    assert_eq!(stream.next().await.title(), "now");
}
