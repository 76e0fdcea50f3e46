//! Every limit has an answer that its client can act upon.

use std::time::Duration;

use notify_gateway::http::STREAM_PATH;
use tokio::{io::AsyncWriteExt as _, net::TcpSocket};
use uuid::Uuid;

use crate::support::{Database, EventSource, PATIENCE, TestGateway, eventually, request, token};

/// What a client gets that can read a status, and what a browser gets that
/// would never come back from one.
async fn refusals(
    gateway: &TestGateway,
    user: Uuid,
    extra: &[(&str, &str)],
    status: u16,
    reason: &str,
) {
    let bearer = format!("Bearer {}", token(user));
    let headers = [&[("authorization", bearer.as_str())][..], extra].concat();
    let hard = request(gateway.address, "GET", STREAM_PATH, &headers).await;
    assert_eq!(hard.status, status);
    assert_eq!(hard.header("content-type"), "application/problem+json");
    assert!(hard.header("retry-after").parse::<u64>().unwrap() >= 1);

    let headers = [&headers[..], &[("accept", "text/event-stream")]].concat();
    let mut soft = EventSource::open_with(gateway.address, STREAM_PATH, &headers).await;
    let closing = soft.next().await;
    assert_eq!((closing.name.as_str(), closing.id.as_ref()), ("closing", None));
    assert_eq!(closing.json()["reason"], reason);
    assert!(closing.retry.is_some());
    assert_eq!(soft.next_or_end().await, None);
    let refused = format!("notify_gateway_refused_total{{reason=\"{reason}\"}}");
    assert!(gateway.metric(&refused).await > 1.5);
}

#[tokio::test]
async fn a_user_has_so_many_streams_and_no_more_and_others_have_theirs() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &["--max-streams-per-user", "2"]).await;
    let user = Uuid::new_v4();
    let mut first = gateway.connect(user).await;
    let second = gateway.connect(user).await;

    refusals(&gateway, user, &[], 429, "too_many_streams").await;
    gateway.connect(Uuid::new_v4()).await;

    drop(second);
    eventually("there is room again", async || {
        let bearer = format!("Bearer {}", token(user));
        let headers = [("authorization", bearer.as_str())];
        request(gateway.address, "GET", STREAM_PATH, &headers).await.status == 200
    })
    .await;
    database.insert(user, "as before").await;
    assert_eq!(first.titles(1).await.0, ["as before"]);
}

#[tokio::test]
async fn the_gateway_has_so_many_streams_and_no_more() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &["--max-streams", "1"]).await;
    let _stream = gateway.connect(Uuid::new_v4()).await;
    refusals(&gateway, Uuid::new_v4(), &[], 503, "full").await;
}

#[tokio::test]
async fn an_address_that_tries_too_often_is_told_to_wait_and_another_is_not() {
    let database = Database::new().await;
    // A rate so low that no machine is slow enough to earn another attempt.
    let gateway = TestGateway::start(&database.url, &["--connect-rate", "1"]).await;
    let user = Uuid::new_v4();
    let flooder = ("x-forwarded-for", "198.51.100.7");
    let bearer = format!("Bearer {}", token(user));
    let headers = [("authorization", bearer.as_str()), flooder];
    for _ in 0..10 {
        request(gateway.address, "GET", STREAM_PATH, &headers).await;
    }
    refusals(&gateway, user, &[flooder], 429, "rate_limited").await;
    let other = [("authorization", bearer.as_str()), ("x-forwarded-for", "198.51.100.8")];
    assert_eq!(request(gateway.address, "GET", STREAM_PATH, &other).await.status, 200);
    // A bad token is a bad token, whatever else is the matter.
    let bad = [("authorization", "Bearer x"), flooder];
    assert_eq!(request(gateway.address, "GET", STREAM_PATH, &bad).await.status, 401);
}

#[tokio::test]
async fn a_user_who_tries_too_often_is_told_to_wait_and_another_is_not() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &["--user-connect-rate", "1"]).await;
    let user = Uuid::new_v4();
    let bearer = format!("Bearer {}", token(user));
    for _ in 0..10 {
        let headers = [("authorization", bearer.as_str())];
        request(gateway.address, "GET", STREAM_PATH, &headers).await;
    }
    refusals(&gateway, user, &[], 429, "rate_limited").await;
    gateway.connect(Uuid::new_v4()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_takes_nothing_at_all_is_closed_and_its_rows_wait_for_it() {
    const ROWS: usize = 3000;
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &["--stall-timeout", "500ms"]).await;
    let user = Uuid::new_v4();
    let id = gateway.cursor(user).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stalled = socket.connect(gateway.address).await.unwrap();
    let head =
        format!("GET {STREAM_PATH}?access_token={} HTTP/1.1\r\nhost: x\r\n\r\n", token(user));
    stalled.write_all(head.as_bytes()).await.unwrap();
    eventually("both are settled", async || {
        (gateway.metric("sse_connections_total").await - 1.0).abs() < 0.1
    })
    .await;

    let insert = format!(
        "INSERT INTO notifications (user_id, title, message)
         SELECT '{user}', n, repeat('x', 2000) FROM generate_series(1, {ROWS}) n"
    );
    database.client.batch_execute(&insert).await.unwrap();

    eventually("it is closed", async || {
        gateway.metric("notify_gateway_stream_ends_total{reason=\"slow_consumer\"}").await > 0.5
    })
    .await;
    let mut titles = Vec::new();
    let gateway = TestGateway::start(&database.url, &["--replay-limit", "10000"]).await;
    let mut resumed = gateway.resume(user, &id).await;
    let reading = async { titles = resumed.titles(ROWS).await.0 };
    tokio::time::timeout(PATIENCE * 2, reading).await.unwrap();
    assert_eq!(titles, (1..=ROWS).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_payload_that_is_not_trusted_is_only_a_reason_to_look() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &["--trust-payloads", "false"]).await;
    let user = Uuid::new_v4();
    let mut stream = gateway.connect(user).await;
    let forged = format!(
        r#"{{"xact_id":"999999","seq":1,"user_id":"{user}","event":"notification","data":{{"title":"forged"}}}}"#
    );
    database.client.execute("SELECT pg_notify('notifications', $1)", &[&forged]).await.unwrap();
    database.insert(user, "real").await;
    assert_eq!(stream.titles(1).await.0, ["real"]);
    assert!(stream.is_quiet_for(Duration::from_millis(200)).await);
}
