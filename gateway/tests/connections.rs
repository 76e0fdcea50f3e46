//! Connections that ask for nothing take no place from those that do.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use uuid::Uuid;

use crate::support::{
    Authority, Database, EventSource, Http2, PATIENCE, Process, TestGateway, eventually, request,
};

const REFUSED: &str = "notify_gateway_refused_total{reason=\"too_many_connections\"}";

async fn silent(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut sockets = Vec::new();
    for _ in 0..count {
        sockets.push(TcpStream::connect(address).await.unwrap());
    }
    sockets
}

/// Waits until the gateway hangs up.
async fn closed(socket: &mut TcpStream) {
    let mut rest = Vec::new();
    let _reset =
        tokio::time::timeout(PATIENCE, socket.read_to_end(&mut rest)).await.expect("the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_sockets_by_the_hundred_leave_the_honest_and_the_operator_their_answers() {
    let database = Database::new().await;
    let flags = ["--user-connect-rate", "0", "--max-streams-per-user", "100"];
    let process = Process::start_with_files(400, &database.url, &flags).await;
    let user = Uuid::new_v4();
    let mut early = EventSource::open(process.address, user).await;
    assert_eq!(early.next().await.name, "connected");

    let _public = silent(process.address, 450).await;
    let _admin = silent(process.admin, 450).await;
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(request(process.admin, "GET", path, &[]).await.status, 200, "{path}");
    }
    let mut streams = vec![early];
    for _ in 0..50 {
        let mut stream = EventSource::open(process.address, user).await;
        assert_eq!(stream.next().await.name, "connected");
        streams.push(stream);
    }
    // LISTEN is held again, and the pool's connections are made again.
    database
        .psql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND application_name = 'notify-gateway'",
        )
        .await;
    database.insert(user, "through the crowd").await;
    for stream in &mut streams {
        assert_eq!(stream.titles(1).await.0, ["through the crowd"]);
    }
    assert!(process.metric(REFUSED).await > 100.0);
}

// On one thread each connection has begun to be idle before the next is accepted.
#[tokio::test]
async fn the_oldest_that_asks_for_nothing_makes_room_in_a_handshake_and_between_requests_too() {
    let database = Database::new().await;
    let authority = Authority::new();
    let files = authority.files("server", "localhost");
    let few = ["--max-connections", "3"];
    let flags = [&["--tls-cert", &files.certificate, "--tls-key", &files.key], &few[..]].concat();
    let tls = TestGateway::start(&database.url, &flags).await;
    let plain = TestGateway::start(&database.url, &few).await;

    let mut handshakes = silent(tls.address, 3).await;
    authority.connect(tls.address, &["http/1.1"]).await.unwrap();
    closed(&mut handshakes[0]).await;

    let mut kept = silent(plain.address, 1).await.remove(0);
    kept.write_all(b"GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut head = [0; 12];
    kept.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 404");
    let mut http2 = Http2::connect(plain.address).await;
    let mut stream = http2.open(Uuid::new_v4()).await;
    assert_eq!(stream.next().await.name, "connected");
    // The kept connection, the stream, these: one too many.
    let _more = silent(plain.address, 2).await;
    closed(&mut kept).await;
    // Now nothing is idle but the silent: streams are not cut for anybody.
    let user = Uuid::new_v4();
    let first = plain.connect(user).await;
    let second = plain.connect(user).await;
    let mut refused = TcpStream::connect(plain.address).await.unwrap();
    closed(&mut refused).await;
    drop((first, second));
    database.insert(user, "nobody's").await;
    assert!(plain.metric(REFUSED).await > 3.5);
    drop(stream);
    drop(http2);
    eventually("there is room again", async || {
        let asked = TcpStream::connect(plain.address).await.unwrap();
        let (mut asked, mut head) = (asked, [0; 12]);
        let _cut = asked.write_all(b"GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n").await;
        asked.read_exact(&mut head).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn one_address_that_is_not_a_proxy_has_its_share_and_no_more() {
    let database = Database::new().await;
    let flags = ["--trusted-proxies", "", "--max-connections", "40", "--max-streams-per-user", "1"];
    let gateway = TestGateway::start(&database.url, &flags).await;
    // A quarter of forty.
    let mut crowd = silent(gateway.address, 10).await;
    let more = silent(gateway.address, 1).await;
    closed(&mut crowd[0]).await;
    let mut byte = [0];
    let others = crowd[1..].iter_mut().map(|socket| socket.try_read(&mut byte));
    assert!(others.into_iter().all(|read| read.is_err()), "they are open still");
    assert!((gateway.metric(REFUSED).await - 1.0).abs() < 0.1);
    drop(more);
}
