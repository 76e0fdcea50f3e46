//! A stop says goodbye to everybody and is over soon.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Response;
use hyper::{
    body::{Body, Frame},
    service::Service,
};
use nix::sys::signal::Signal;
use notify_gateway::{
    gateway::{Gateway, RunError},
    http::STREAM_PATH,
    server::{Answer, ServerRequest},
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::{
    Database, EventSource, PATIENCE, Process, SECRET, TestGateway, config, eventually, request,
    token,
};

#[tokio::test]
async fn every_stream_is_told_and_none_is_opened_any_more() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &["--drain", "10s"]).await;
    let users: Vec<Uuid> = (0..20).map(|_| Uuid::new_v4()).collect();
    let mut streams = Vec::new();
    for user in &users {
        streams.push(gateway.connect(*user).await);
    }

    gateway.stop();

    let mut retries = Vec::new();
    for stream in &mut streams {
        let closing = stream.next().await;
        assert_eq!(closing.name, "closing");
        assert_eq!(closing.json()["reason"], "shutdown");
        retries.push(closing.retry.unwrap());
        assert_eq!(stream.next_or_end().await, None);
    }
    // From one second on, spread over the ten of the drain: no stampede.
    assert!(retries.iter().all(|retry| (1_000..=11_000).contains(retry)), "{retries:?}");
    let spread = retries.iter().max().unwrap() - retries.iter().min().unwrap();
    assert!(spread > 2_000, "{retries:?}");
    drop(streams);
    gateway.ended().await.unwrap();
}

#[tokio::test]
async fn sigterm_ends_the_process_with_success_and_its_streams_with_a_reason() {
    let database = Database::new().await;
    let mut process = Process::start(&database.url, &[]).await;
    let user = Uuid::new_v4();
    let secret_token = token(user);
    let target = format!("{STREAM_PATH}?access_token={secret_token}");
    let mut stream = EventSource::open_with(process.address, &target, &[]).await;
    assert_eq!(stream.next().await.name, "connected");
    database.insert(user, "a private title").await;
    assert_eq!(stream.next().await.title(), "a private title");

    process.signal(Signal::SIGTERM);

    assert_eq!(stream.next().await.json()["reason"], "shutdown");
    assert_eq!(stream.next_or_end().await, None);
    drop(stream);
    assert_eq!(process.ended().await.code(), Some(0));
    let log = process.log();
    for secret in [secret_token.as_str(), "a private title", SECRET] {
        assert!(!log.contains(secret), "the log holds {secret}");
    }
}

#[tokio::test]
async fn a_client_that_keeps_its_connection_does_not_hold_the_stop_up() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &["--drain", "200ms"]).await;
    let idle = request(gateway.address, "GET", "/", &[]).await;
    let stalled = gateway.connect(Uuid::new_v4()).await;

    gateway.stop();

    tokio::time::timeout(Duration::from_secs(20), gateway.ended()).await.unwrap().unwrap();
    drop((idle, stalled));
}

#[tokio::test]
async fn a_second_signal_ends_the_process_at_once() {
    let database = Database::new().await;
    let mut process = Process::start(&database.url, &["--drain", "1h"]).await;
    // It reads nothing, so that its connection cannot end by itself.
    let user = Uuid::new_v4();
    let mut stays = TcpStream::connect(process.address).await.unwrap();
    stays.write_all(ask(user).as_bytes()).await.unwrap();
    eventually("it is open", async || process.metric("sse_connections_total").await > 0.5).await;
    let large = format!(
        "INSERT INTO notifications (user_id, title, message)
         SELECT '{user}', n, repeat('x', 500000) FROM generate_series(1, 40) AS n"
    );
    database.psql(&large).await;
    eventually("its socket is full", async || {
        process.metric("notify_gateway_lagging_streams").await > 0.5
    })
    .await;
    process.signal(Signal::SIGTERM);
    eventually("it drains", async || {
        request(process.admin, "GET", "/readyz", &[]).await.text().await.contains("draining")
    })
    .await;
    process.signal(Signal::SIGINT);
    assert_eq!(process.ended().await.code(), Some(1));
    drop(stays);
}

/// Fewer where the limit on open files leaves no room for them beside the other tests.
const MANY: usize = 10_000;

/// The head of a request for the stream.
fn ask(user: Uuid) -> String {
    format!(
        "GET {STREAM_PATH} HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {}\r\n\r\n",
        token(user)
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_of_ten_thousand_streams_takes_the_drain_and_no_longer() {
    const DRAIN: Duration = Duration::from_secs(3);
    let database = Database::new().await;
    let files = notify_gateway::limits::raise_open_files().unwrap();
    let many = MANY.min(usize::try_from(files / 20 * 11).unwrap_or(MANY));
    let flags = ["--drain", "3s", "--connect-rate", "0", "--max-streams-per-user", "100000"];
    let flags = [&flags[..], &["--user-connect-rate", "0", "--trusted-proxies", "127.0.0.0/8"]];
    let mut process = Process::start(&database.url, &flags.concat()).await;
    let ask = ask(Uuid::new_v4());
    // They read nothing: not even the end of their streams moves them to leave.
    let mut streams = Vec::with_capacity(many);
    for _ in 0..many {
        let mut stream = TcpStream::connect(process.address).await.unwrap();
        stream.write_all(ask.as_bytes()).await.unwrap();
        streams.push(stream);
    }
    #[allow(clippy::cast_precision_loss, reason = "some thousands")]
    eventually("all are open", async || {
        process.metric("sse_connections_total").await >= many as f64
    })
    .await;
    // One that keeps its connection to the operator's port, and one that does not end its request.
    let idle = TcpStream::connect(process.admin).await.unwrap();
    let mut slow = TcpStream::connect(process.admin).await.unwrap();
    slow.write_all(b"GET /metrics HTTP/1.1\r\n").await.unwrap();

    let begun = Instant::now();
    process.signal(Signal::SIGTERM);
    assert_eq!(process.ended().await.code(), Some(0));
    let took = begun.elapsed();
    println!("{many} streams: the stop took {took:?}");
    assert!(took <= DRAIN + Duration::from_secs(2), "{many} streams: {took:?}");
    drop((streams, idle, slow));
}

/// Routes with a bug: what their answers leave behind cannot be cleared away.
struct Broken;

impl Service<ServerRequest> for Broken {
    type Response = Response<Bomb>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn call(&self, _request: ServerRequest) -> Self::Future {
        ready(Ok(Response::new(Bomb)))
    }
}

/// A body without a length, which ends at once.
struct Bomb;

impl Body for Bomb {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }
}

impl Answer for Bomb {}

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a bug of the test's own")
    }
}

#[tokio::test]
async fn a_gateway_of_which_one_task_has_died_ends_and_says_which() {
    let database = Database::new().await;
    let gateway = Gateway::bind(config(&database.url, &[])).unwrap();
    let address = gateway.local_addr().unwrap();
    let running = tokio::spawn(gateway.run_with(|_| Broken, CancellationToken::new()));
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let outcome = tokio::time::timeout(PATIENCE, running).await.expect("its end").unwrap();
    let Err(RunError::Task(ended)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(ended.task, "public port");
    assert!(ended.reason.contains("a bug of the test's own"), "{ended}");
}
