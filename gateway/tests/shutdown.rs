//! A stop says goodbye to everybody and is over soon.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use notify_gateway::http::STREAM_PATH;
use uuid::Uuid;

use crate::support::{Database, EventSource, SECRET, TestGateway, eventually, request, token};

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
    let mut process = Command::new(env!("CARGO_BIN_EXE_notify-gateway"))
        .args(["--database-url", &database.url, "--jwt-secret", SECRET])
        .args(["--bind", "127.0.0.1:0", "--admin-bind", "127.0.0.1:0", "--log-format", "json"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map(Running)
        .unwrap();
    let mut log = BufReader::new(process.0.stderr.take().unwrap());
    let mut line = String::new();
    log.read_line(&mut line).unwrap();
    let started: serde_json::Value = serde_json::from_str(&line).unwrap();
    let address = started["address"].as_str().unwrap().parse().unwrap();
    let admin = started["admin"].as_str().unwrap().parse().unwrap();
    eventually("it is ready", async || request(admin, "GET", "/readyz", &[]).await.status == 200)
        .await;
    let user = Uuid::new_v4();
    let secret_token = token(user);
    let target = format!("{STREAM_PATH}?access_token={secret_token}");
    let mut stream = EventSource::open_with(address, &target, &[]).await;
    assert_eq!(stream.next().await.name, "connected");
    database.insert(user, "a private title").await;
    assert_eq!(stream.next().await.title(), "a private title");

    let pid = Pid::from_raw(process.0.id().try_into().unwrap());
    kill(pid, Signal::SIGTERM).unwrap();

    assert_eq!(stream.next().await.json()["reason"], "shutdown");
    assert_eq!(stream.next_or_end().await, None);
    drop(stream);
    let status = tokio::task::spawn_blocking(move || process.0.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0));
    let log: String = log.lines().map_while(Result::ok).collect();
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

/// A process that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended by itself where the test has passed.
        let _ended = self.0.kill();
    }
}
