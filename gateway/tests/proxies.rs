//! Behind each real proxy whose lines `docs/proxies.md` gives.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use nix::sys::signal::Signal;
use notify_gateway::http::STREAM_PATH;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpSocket,
};
use uuid::Uuid;

use crate::support::{
    Browser, Database, EventSource, Kind, PATIENCE, Page, Process, Proxy, guide, token,
};

#[test]
fn the_lines_for_nginx_are_the_same_in_the_readme() {
    let readme = include_str!("../../README.md");
    let lines = readme.split_once("```nginx\n").unwrap().1.split_once("```").unwrap().0;
    assert_eq!(guide::file_of("proxies.md", "/etc/nginx/snippets/bell.conf"), lines);
}

/// Says what becomes of an `EventSource`; `stood in` is a stream of the proxy's own.
const SCRIPT: &str = "
  const source = new EventSource(`${STREAM}?access_token=${TOKEN}`);
  let isOwn = false;
  source.onopen = () => { isOwn = false; };
  source.addEventListener('connected', () => { isOwn = true; report('connected'); });
  source.addEventListener('notification', (event) =>
    report({ title: JSON.parse(event.data).title }));
  source.onerror = () => {
    if (source.readyState === 2) report('closed for good');
    else if (!isOwn) report('stood in');
    isOwn = false;
  };";

async fn a_page_outlives_the_gateway(kind: Kind) {
    let database = Database::new().await;
    let mut process = Process::start(&database.url, &[]).await;
    let user = Uuid::new_v4();
    let script = format!("const STREAM = '{STREAM_PATH}', TOKEN = '{}';{SCRIPT}", token(user));
    let mut page = Page::serve(&script, None).await;
    let Some(proxy) = Proxy::start(kind, process.address, page.address()).await else { return };
    let url = format!("http://localhost:{}/", proxy.address.port());
    let Some(_browser) = Browser::open_at(&url) else { return };
    assert_eq!(page.reported().await, json!("connected"));
    database.insert(user, "before").await;
    assert_eq!(page.reported().await, json!({"title": "before"}));

    process.signal(Signal::SIGKILL);
    process.ended().await;
    database.insert(user, "meanwhile").await;
    // The browser sees the first stream end, and comes back twice for nothing.
    let mut stood_in = 0;
    while stood_in < 2 {
        match page.reported().await {
            Value::String(what) if what == "stood in" => stood_in += 1,
            other => panic!("{other} while the gateway is away"),
        }
    }
    let address = process.address.to_string();
    let _restarted = Process::start(&database.url, &["--bind", &address]).await;
    let next = loop {
        match page.reported().await {
            Value::String(what) if what == "stood in" => {}
            other => break other,
        }
    };
    assert_eq!(next, json!("connected"));
    assert_eq!(page.reported().await, json!({"title": "meanwhile"}));
    database.insert(user, "after").await;
    assert_eq!(page.reported().await, json!({"title": "after"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_nginx_a_page_outlives_the_gateway() {
    a_page_outlives_the_gateway(Kind::Nginx).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_caddy_a_page_outlives_the_gateway() {
    a_page_outlives_the_gateway(Kind::Caddy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_haproxy_a_page_outlives_the_gateway() {
    a_page_outlives_the_gateway(Kind::HaProxy).await;
}

/// A row is there long before anything else could push it through.
const AT_ONCE: Duration = Duration::from_secs(5);

async fn the_stream_comes_at_once(kind: Kind) {
    let database = Database::new().await;
    let process = Process::start(&database.url, &["--heartbeat", "12s"]).await;
    let page = Page::serve("", None).await;
    let Some(proxy) = Proxy::start(kind, process.address, page.address()).await else { return };
    let user = Uuid::new_v4();
    let bearer = format!("Bearer {}", token(user));
    let headers = [
        ("authorization", bearer.as_str()),
        // As a browser says; what is compressed cannot be read here.
        ("accept-encoding", "gzip, deflate, br, zstd"),
    ];
    let opening = EventSource::open_with(proxy.address, STREAM_PATH, &headers);
    let mut stream = tokio::time::timeout(AT_ONCE, opening).await.expect("the head, at once");
    assert_eq!(stream.response.header("content-type"), "text/event-stream");
    assert_eq!(stream.response.header("cache-control"), "no-cache");
    assert_eq!(stream.response.header("content-encoding"), "");
    let connected = tokio::time::timeout(AT_ONCE, stream.next()).await.expect("connected, at once");
    assert_eq!(connected.name, "connected");
    for title in ["one", "two", "three"] {
        database.insert(user, title).await;
        let row = tokio::time::timeout(AT_ONCE, stream.next_but_heartbeat()).await;
        assert_eq!(row.expect("the row, at once").title(), title);
    }
    let heartbeat = async { while stream.next().await.name != "heartbeat" {} };
    tokio::time::timeout(PATIENCE, heartbeat).await.expect("a heartbeat");
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_nginx_the_stream_comes_at_once() {
    the_stream_comes_at_once(Kind::Nginx).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_caddy_the_stream_comes_at_once() {
    the_stream_comes_at_once(Kind::Caddy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_haproxy_the_stream_comes_at_once() {
    the_stream_comes_at_once(Kind::HaProxy).await;
}

/// The status that a client with this address gets.
async fn status(client: [u8; 4], proxy: SocketAddr, headers: &[(&str, &str)]) -> u16 {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::from(client), 0).into()).unwrap();
    let stream = socket.connect(proxy).await.unwrap();
    let headers =
        headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect::<String>();
    let request = format!("GET {STREAM_PATH} HTTP/1.1\r\nhost: app.test\r\n{headers}\r\n");
    let mut stream = BufReader::new(stream);
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut line = String::new();
    tokio::time::timeout(PATIENCE, stream.read_line(&mut line)).await.expect("a head").unwrap();
    line.split(' ').nth(1).expect(&line).parse().unwrap()
}

/// What the proxy says of its clients counts, and what they say of themselves does not.
async fn clients_are_who_they_are(kind: Kind) {
    let database = Database::new().await;
    let flags = [
        "--connect-rate",
        "2",
        "--jwt-cookie",
        "session",
        "--jwt-secret",
        crate::support::SECRET,
        "--trusted-proxies",
        "127.0.0.1/32",
    ];
    let process = Process::start(&database.url, &flags).await;
    let page = Page::serve("", None).await;
    let Some(proxy) = Proxy::start(kind, process.address, page.address()).await else { return };
    let token = token(Uuid::new_v4());
    let cookie = format!("session={token}");
    let from = async |origin: &str| {
        let lies = [
            ("cookie", cookie.as_str()),
            ("origin", origin),
            ("x-forwarded-host", "evil.test"),
            ("forwarded", "for=198.51.100.1;host=evil.test"),
        ];
        status([127, 0, 0, 4], proxy.address, &lies).await
    };
    assert_eq!(from("http://app.test").await, 200, "the host is the one that was asked for");
    assert_eq!(from("http://evil.test").await, 403, "not the one that the client names");

    let bearer = format!("Bearer {token}");
    let mut refused = 0;
    for attempt in 0..12 {
        let address = format!("198.51.100.{attempt}");
        let element = format!("for={address}");
        let lies = [
            ("authorization", bearer.as_str()),
            ("x-forwarded-for", address.as_str()),
            ("forwarded", element.as_str()),
        ];
        if status([127, 0, 0, 2], proxy.address, &lies).await == 429 {
            refused += 1;
        }
    }
    assert!(refused > 0, "one client that claims to be many has no limit");
    let other = [("authorization", bearer.as_str())];
    assert_eq!(status([127, 0, 0, 3], proxy.address, &other).await, 200, "one limit for all");
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_nginx_clients_are_who_they_are() {
    clients_are_who_they_are(Kind::Nginx).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_caddy_clients_are_who_they_are() {
    clients_are_who_they_are(Kind::Caddy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_haproxy_clients_are_who_they_are() {
    clients_are_who_they_are(Kind::HaProxy).await;
}
