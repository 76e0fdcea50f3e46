//! `notify-gateway dev`: the newcomer's first minute.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use crate::support::{EventSource, Nats, request};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

#[tokio::test(flavor = "multi_thread")]
async fn it_prints_three_lines_that_work_and_leaves_nothing_behind() {
    three_lines_work(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn they_work_with_nats_between_two_gateways() {
    if !Nats::binaries().is_empty() {
        three_lines_work(&["--relay"]).await;
    }
}

async fn three_lines_work(arguments: &[&str]) {
    let mut dev = Command::new(env!("CARGO_BIN_EXE_notify-gateway"))
        .args(["dev", "--bind", "127.0.0.1:0", "--admin-bind", "127.0.0.1:0"])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut printed = BufReader::new(dev.stdout.take().unwrap()).lines();
    let mut lines = HashMap::new();
    while lines.len() < 3 {
        let line = printed.next().expect("three lines").unwrap();
        if let Some((name, line)) = line.split_once(":  ") {
            lines.insert(name.to_owned(), line.to_owned());
        }
    }
    let pid = Pid::from_raw(dev.id().try_into().unwrap());

    // The page.
    let address = lines["page"].trim_start_matches("http://").trim_end_matches('/');
    let address = address.parse().unwrap();
    let page = request(address, "GET", "/", &[]).await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").starts_with("text/html"));
    assert!(page.text().await.contains("/api/notifications/stream"));

    // The curl line.
    let curl = &lines["curl"];
    let bearer = curl.split("'Authorization: ").nth(1).unwrap().split('\'').next().unwrap();
    let target = curl.split_once(&format!("http://{address}")).unwrap().1;
    let mut stream = EventSource::open_with(address, target, &[("authorization", bearer)]).await;
    assert_eq!(stream.next().await.name, "connected");

    // The psql line.
    let psql = lines["psql"].clone();
    let status = tokio::task::spawn_blocking(move || {
        Command::new("sh").args(["-c", &psql]).stdout(Stdio::null()).status().unwrap()
    });
    assert!(status.await.unwrap().success());
    assert_eq!(stream.next().await.title(), "Hello");
    let config = request(address, "GET", "/demo/config", &[]).await.text().await;
    let user = serde_json::from_str::<serde_json::Value>(&config).unwrap()["users"][0]["user_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("/demo/notifications?user_id={user}&limit=5");
    let list = request(address, "GET", &path, &[]).await.text().await;
    let list = serde_json::from_str::<serde_json::Value>(&list).unwrap();
    assert_eq!(list["notifications"][0]["title"], "Hello");
    assert_eq!(list["unreadCount"], 1);
    // Whoever is no user of the page has no list.
    let path = format!("/demo/notifications?user_id={}", uuid::Uuid::new_v4());
    assert_eq!(request(address, "GET", &path, &[]).await.status, 404);

    // Ctrl-C.
    let port = lines["psql"].split('@').nth(1).unwrap().split('/').next().unwrap().to_owned();
    kill(pid, Signal::SIGINT).unwrap();
    assert_eq!(stream.next().await.json()["reason"], "shutdown");
    drop(stream);
    let status = tokio::task::spawn_blocking(move || dev.wait().unwrap()).await.unwrap();
    assert!(status.success(), "{status}");
    assert!(std::net::TcpStream::connect(port).is_err(), "PostgreSQL is still there");
}
