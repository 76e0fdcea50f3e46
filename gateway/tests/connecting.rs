//! Who is let in, how, and what the others are told.

use std::time::{Duration, Instant};

use notify_gateway::http::STREAM_PATH;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use uuid::Uuid;

use crate::support::{
    Database, EventSource, Http2, PATIENCE, TestGateway, eventually, request, token, token_for,
};

#[tokio::test]
async fn a_token_opens_a_stream_from_each_of_its_places() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &["--jwt-cookie", "session"]).await;
    let user = Uuid::new_v4();
    let token = token(user);

    let header = format!("bearer {token}");
    let cookie = format!("theme=dark; session={token}");
    let query = format!("{STREAM_PATH}?access_token={token}");
    for (target, headers) in [
        (STREAM_PATH, &[("authorization", header.as_str())][..]),
        (STREAM_PATH, &[("cookie", cookie.as_str())]),
        (query.as_str(), &[]),
    ] {
        let mut stream = EventSource::open_with(gateway.address, target, headers).await;
        assert_eq!(stream.next().await.json()["user_id"], user.to_string());
    }
}

#[tokio::test]
async fn what_is_no_proper_request_is_told_why() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &["--jwt-cookie", "session"]).await;
    let user = Uuid::new_v4();
    let bearer = format!("Bearer {}", token(user));
    let cookie = format!("session={}", token(user));
    let expired = format!("Bearer {}", token_for(user, Duration::ZERO));
    let other = format!("{STREAM_PATH}?access_token={}", token(Uuid::new_v4()));
    let broken = format!("{STREAM_PATH}?access_token=%zz");
    let authorized = ("authorization", bearer.as_str());

    for (method, target, headers, status) in [
        ("GET", "/", &[authorized][..], 404),
        ("GET", "/metrics", &[authorized], 404),
        ("GET", "/api/notifications/stream/", &[authorized], 404),
        ("POST", STREAM_PATH, &[authorized], 405),
        ("HEAD", STREAM_PATH, &[authorized], 405),
        ("GET", &other, &[authorized], 400),
        ("GET", &broken, &[], 400),
        ("GET", STREAM_PATH, &[("cookie", &cookie), ("origin", "https://evil.test")], 403),
    ] {
        let response = request(gateway.address, method, target, headers).await;
        assert_eq!(response.status, status, "{method} {target} {headers:?}");
        assert_eq!(response.header("content-type"), "application/problem+json");
        if status == 405 {
            assert_eq!(response.header("allow"), "GET, OPTIONS");
        }
    }
    let options = request(gateway.address, "OPTIONS", STREAM_PATH, &[]).await;
    assert_eq!((options.status, options.header("allow")), (204, "GET, OPTIONS"));

    // A token that has just run out is still within the leeway; one second past
    // that it is not. A strict gateway shows it without the wait.
    let strict = TestGateway::start(&database.url, &["--jwt-leeway", "0s"]).await;
    eventually("the token is refused", async || {
        let headers = [("authorization", expired.as_str())];
        request(strict.address, "GET", STREAM_PATH, &headers).await.status == 401
    })
    .await;
}

#[tokio::test]
async fn a_stream_ends_when_its_token_expires() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &["--jwt-leeway", "0s"]).await;
    let bearer = format!("Bearer {}", token_for(Uuid::new_v4(), Duration::from_secs(2)));
    let headers = [("authorization", bearer.as_str())];

    let asked = Instant::now();
    let mut stream = EventSource::open_with(gateway.address, STREAM_PATH, &headers).await;
    let connected = stream.next().await.json();
    assert!(connected["expires_at"].is_string());
    let closing = stream.next().await;

    assert_eq!(closing.name, "closing");
    assert_eq!(closing.json()["reason"], "token_expired");
    assert!(closing.retry.is_some());
    assert!(asked.elapsed() < PATIENCE);
    assert_eq!(stream.next_or_end().await, None);
}

#[tokio::test]
async fn http2_by_prior_knowledge_carries_several_streams_on_one_connection() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &[]).await;
    let users = [Uuid::new_v4(), Uuid::new_v4()];
    let mut connection = Http2::connect(gateway.address).await;
    let mut streams = Vec::new();
    for user in users {
        let mut stream = connection.open(user).await;
        assert_eq!(stream.response.header("content-type"), "text/event-stream");
        assert!(!stream.response.headers.contains_key("connection"));
        assert_eq!(stream.next().await.name, "connected");
        streams.push(stream);
    }
    database.insert(users[1], "over HTTP/2").await;
    assert_eq!(streams[1].titles(1).await.0, ["over HTTP/2"]);
}

#[tokio::test]
async fn an_http_1_0_proxy_gets_a_stream_that_ends_with_its_connection() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &[]).await;
    let user = Uuid::new_v4();
    let mut socket = TcpStream::connect(gateway.address).await.unwrap();
    let head = format!("GET {STREAM_PATH}?access_token={} HTTP/1.0\r\n\r\n", token(user));
    socket.write_all(head.as_bytes()).await.unwrap();

    let mut text = String::new();
    let reading = async {
        while !text.contains("event: connected") {
            let mut buffer = [0; 1024];
            let n = socket.read(&mut buffer).await.unwrap();
            assert_ne!(n, 0, "the connection ended: {text}");
            text += std::str::from_utf8(&buffer[..n]).unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("connection: close"), "{text}");
    assert!(!text.contains("transfer-encoding"), "{text}");
}

#[tokio::test]
async fn the_admin_port_has_what_the_public_port_has_not() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &[]).await;

    let health = request(gateway.admin, "GET", "/healthz", &[]).await;
    assert_eq!(health.status, 200);
    assert_eq!(
        gateway.readyz().await,
        (200, "{\"ready\":true,\"degraded\":false,\"reasons\":[]}\n".into())
    );
    let metrics = request(gateway.admin, "GET", "/metrics", &[]).await;
    assert_eq!(metrics.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let age = gateway.metric("notify_gateway_probe_age_seconds").await;
    assert!(age > 0.0 && age < 3600.0, "{age}");
    assert_eq!(request(gateway.admin, "GET", STREAM_PATH, &[]).await.status, 404);
    assert_eq!(request(gateway.admin, "DELETE", "/metrics", &[]).await.status, 405);
}

#[tokio::test]
async fn a_reconnect_is_counted_under_how_the_users_last_stream_ended() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &[]).await;
    let user = Uuid::new_v4();
    let count = async |reason: &str| {
        gateway.metric(&format!("sse_reconnection_attempts_total{{reason=\"{reason}\"}}")).await
    };
    let bearer = format!("Bearer {}", token(user));
    let headers = [("authorization", bearer.as_str()), ("last-event-id", "x")];

    let first = EventSource::open_with(gateway.address, STREAM_PATH, &headers).await;
    assert!((count("unknown").await - 1.0).abs() < 0.1);
    drop(first);
    eventually("it has left", async || gateway.metric("sse_connections_total").await < 0.5).await;
    let _again = EventSource::open_with(gateway.address, STREAM_PATH, &headers).await;
    assert!((count("disconnected").await - 1.0).abs() < 0.1);
}
