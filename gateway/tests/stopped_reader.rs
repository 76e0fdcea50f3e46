//! A reader that has stopped reading gets nothing more than a reader may.

use std::time::Duration;

use notify_gateway::http::STREAM_PATH;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};
use uuid::Uuid;

use crate::support::{Database, Http2, PATIENCE, TestGateway, eventually, token_for};

/// A stream whose reader has stopped, and whose rows wait for it.
async fn stopped(gateway: &TestGateway, database: &Database, user: Uuid, token: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(gateway.address).await.unwrap();
    let head = format!("GET {STREAM_PATH}?access_token={token} HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
    overflow(gateway, database, user).await;
    stream
}

/// Writes more rows than a reader that has stopped has room for.
async fn overflow(gateway: &TestGateway, database: &Database, user: Uuid) {
    let insert = format!(
        "INSERT INTO notifications (user_id, title, message)
         SELECT '{user}', n, repeat('x', 2000) FROM generate_series(1, 3000) n"
    );
    database.client.batch_execute(&insert).await.unwrap();
    eventually("it is known to lag, without reading on", async || {
        gateway.metric("notify_gateway_lagging_streams").await > 0.5
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_2_a_revocation_ends_the_stream_and_not_the_others_of_its_connection() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &["--stall-timeout", "1h"]).await;
    let (user, other) = (Uuid::new_v4(), Uuid::new_v4());
    let mut http2 = Http2::connect(gateway.address).await;
    let mut stopped = http2.open(user).await;
    let mut neighbour = http2.open(other).await;
    assert_eq!(stopped.next().await.name, "connected");
    assert_eq!(neighbour.next().await.name, "connected");
    overflow(&gateway, &database, user).await;
    database
        .psql(&format!("INSERT INTO notify_gateway.revocation (user_id) VALUES ('{user}')"))
        .await;
    eventually("it ends", async || {
        gateway.metric("notify_gateway_stream_ends_total{reason=\"revoked\"}").await > 0.5
    })
    .await;
    assert!((gateway.metric("sse_connections_total").await - 1.0).abs() < 0.1);
    database.insert(other, "still here").await;
    assert_eq!(neighbour.titles(1).await.0, ["still here"]);
}

async fn ends(gateway: &TestGateway, reason: &str) {
    let metric = format!("notify_gateway_stream_ends_total{{reason=\"{reason}\"}}");
    eventually("it ends", async || gateway.metric(&metric).await > 0.5).await;
    assert!(gateway.metric("sse_connections_total").await < 0.5);
    assert!(gateway.metric("notify_gateway_lagging_streams").await < 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_2_a_stream_that_takes_nothing_is_closed_and_not_its_connection() {
    let database = Database::new().await;
    let flags = ["--stall-timeout", "500ms", "--heartbeat", "50ms"];
    let gateway = TestGateway::start(&database.url, &flags).await;
    let (user, other) = (Uuid::new_v4(), Uuid::new_v4());
    let mut http2 = Http2::connect(gateway.address).await;
    let mut stopped = http2.open(user).await;
    let mut neighbour = http2.open(other).await;
    assert_eq!(stopped.next().await.name, "connected");
    assert_eq!(neighbour.next().await.name, "connected");
    overflow(&gateway, &database, user).await;
    let slow = "notify_gateway_stream_ends_total{reason=\"slow_consumer\"}";
    // The neighbour reads meanwhile: the connection is not idle.
    let reading = async {
        while gateway.metric(slow).await < 0.5 {
            assert_eq!(neighbour.next().await.name, "heartbeat");
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap();
    database.insert(other, "still here").await;
    assert_eq!(neighbour.titles(1).await.0, ["still here"]);
}

/// What the kernel had taken before, and the end.
async fn rest(mut stream: TcpStream) -> String {
    let mut rest = Vec::new();
    let _reset = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap();
    String::from_utf8_lossy(&rest).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_ends_its_stream_though_the_socket_takes_nothing() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &["--stall-timeout", "1h"]).await;
    let user = Uuid::new_v4();
    let token = token_for(user, Duration::from_secs(3600));
    let stream = stopped(&gateway, &database, user, &token).await;
    database
        .psql(&format!("INSERT INTO notify_gateway.revocation (user_id) VALUES ('{user}')"))
        .await;
    ends(&gateway, "revoked").await;
    assert!(!rest(stream).await.contains("\"title\": \"3000\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_token_ends_its_stream_though_the_socket_takes_nothing() {
    let database = Database::new().await;
    let flags = ["--stall-timeout", "1h", "--jwt-leeway", "0s"];
    let gateway = TestGateway::start(&database.url, &flags).await;
    let user = Uuid::new_v4();
    let token = token_for(user, Duration::from_secs(10));
    let _stream = stopped(&gateway, &database, user, &token).await;
    ends(&gateway, "token_expired").await;
}
