//! What hostile clients send, and that it harms nobody.

use std::{net::SocketAddr, time::Duration};

use notify_gateway::http::STREAM_PATH;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use uuid::Uuid;

use crate::support::{Database, PATIENCE, TestGateway, eventually, token};

/// All that comes back for these bytes until the gateway hangs up.
async fn answer_to(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // It may hang up before it has read everything.
    let _cut = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    let _reset = tokio::time::timeout(PATIENCE, reading).await.expect("the end");
    String::from_utf8(answer).unwrap()
}

fn problem(answer: &str) -> Value {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}"));
    assert!(head.contains("content-type: application/problem+json"), "{head}");
    assert!(head.contains("connection: close"), "{head}");
    serde_json::from_str(body).unwrap()
}

#[tokio::test]
async fn what_is_no_request_is_told_what_is_wrong_with_it() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &[]).await;
    let huge = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "x".repeat(20_000));
    let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "x: y\r\n".repeat(200));
    for (bytes, status) in [
        (&b"\x16\x03\x01\x02\x00\x01\x00"[..], 400),
        (b"\xff\xfe\xfd\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: abc\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 400),
        (
            b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
            400,
        ),
        (b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n", 400),
        (huge.as_bytes(), 431),
        (many.as_bytes(), 431),
    ] {
        let answer = problem(&answer_to(gateway.address, bytes).await);
        assert_eq!(answer["status"], status, "{bytes:.40?}");
        assert!(answer["detail"].as_str().is_some_and(|detail| detail.len() > 30), "{answer}");
    }
    // Strange, but requests: each has its own answer, and the connection goes on.
    let strange = "BREW /pot HTTP/1.1\r\nhost: x\r\n\r\n\
                   OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n\
                   GET http://elsewhere.example/ HTTP/1.1\r\nhost: x\r\n\r\n\
                   PUT /x HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nGET /\
                   HEAD /api/notifications/stream HTTP/1.1\r\nhost: x\r\n\r\n\
                   GET /../etc/passwd HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answers = answer_to(gateway.address, strange.as_bytes()).await;
    let statuses: Vec<&str> =
        answers.lines().filter_map(|line| line.split_once("HTTP/1.1 ")?.1.get(..3)).collect();
    assert_eq!(statuses, ["404", "404", "404", "404", "405", "404"], "{answers}");
}

#[tokio::test]
async fn a_head_that_takes_too_long_is_told_so_and_silence_is_cut_off() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &[]).await;
    let slow = answer_to(gateway.address, b"GET / HTTP/1.1\r\nhost: x\r\n");
    let silent = answer_to(gateway.address, b"");
    let half_a_preface = answer_to(gateway.address, b"PRI * HTTP/2");
    let whole_preface = async {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        let mut answer = Vec::new();
        let _reset = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
    };
    let (slow, silent, half, ()) = tokio::join!(slow, silent, half_a_preface, whole_preface);
    assert_eq!(problem(&slow)["status"], 408);
    assert_eq!(silent, "");
    assert_eq!(problem(&half)["status"], 408);
}

#[tokio::test]
async fn a_body_where_none_belongs_is_not_read() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &[]).await;
    let token = token(Uuid::new_v4());
    for (method, length, status) in [("POST", 1_000_000, "405"), ("GET", 5, "200")] {
        let head = format!(
            "{method} {STREAM_PATH}?access_token={token} HTTP/1.1\r\nhost: x\r\n\
             content-length: {length}\r\n\r\n"
        );
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut line = [0; 12];
        let reading = stream.read_exact(&mut line);
        tokio::time::timeout(PATIENCE, reading).await.unwrap().unwrap();
        assert_eq!(&line[9..], status.as_bytes());
        // Nor does it hide that nobody is there any more.
        stream.shutdown().await.unwrap();
        eventually("it has left", async || gateway.metric("sse_connections_total").await < 0.5)
            .await;
    }
}

#[tokio::test]
async fn bytes_sent_into_an_open_stream_do_not_hide_that_its_reader_has_gone() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &["--heartbeat", "1h"]).await;
    let open = async || {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        let token = token(Uuid::new_v4());
        let head =
            format!("GET {STREAM_PATH}?access_token={token} HTTP/1.1\r\nhost: x\r\n\r\nGET /stray");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    };
    let streams = async |n: f64| {
        eventually("as many streams as there should be", async || {
            (gateway.metric("sse_connections_total").await - n).abs() < 0.1
        })
        .await;
    };
    let (gone, mut half, mut flood) = (open().await, open().await, open().await);
    streams(3.0).await;
    drop(gone);
    half.shutdown().await.unwrap();
    streams(1.0).await;
    // Nobody sends this much to be told nothing.
    let junk = vec![b'x'; 1_000_000];
    let _cut = flood.write_all(&junk).await;
    streams(0.0).await;
}

/// RFC 9113, section 4.1.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_over_http_2_end_their_own_connection_and_cost_no_memory() {
    const SETTINGS: u8 = 4;
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &["--stall-timeout", "1s"]).await;
    let user = Uuid::new_v4();
    let mut bystander = gateway.connect(user).await;
    let preface =
        [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &[])].concat();

    // HPACK (RFC 7541): GET, http, /, and a literal authority.
    let request = [&[0x82, 0x86, 0x84, 0x41, 1][..], b"x"].concat();
    let opened_and_reset = |n: u32| {
        let stream = 2 * n + 1;
        [frame(1, 0x5, stream, &request), frame(3, 0, stream, &[0, 0, 0, 8])].concat()
    };
    let resets: Vec<u8> = (0..50_000).flat_map(opened_and_reset).collect();
    let pings = frame(6, 0, 0, &[7; 8]).repeat(200_000);
    let settings = frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 9]).repeat(200_000);
    let continuations =
        [frame(1, 0, 1, &request), frame(9, 0, 1, &[0x40, 1, b'a', 1, b'b']).repeat(200_000)]
            .concat();
    for (flood, what) in [
        (resets, "resets"),
        (pings, "pings"),
        (settings, "settings"),
        (continuations, "continuations"),
    ] {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(&preface).await.unwrap();
        // It reads no answer: who floods does not.
        let flooding = async { stream.write_all(&flood).await };
        let outcome = tokio::time::timeout(PATIENCE, flooding).await;
        let is_cut = match outcome {
            Ok(Err(_)) => true,
            // All of it fitted into the buffers on the way: the answers do not.
            _ => {
                let mut rest = Vec::new();
                let end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
                end.is_ok()
            }
        };
        assert!(is_cut, "{what} go on for ever");
        database.insert(user, what).await;
        assert_eq!(bystander.titles(1).await.0, [what]);
    }
    assert!(bystander.is_quiet_for(Duration::from_millis(100)).await);
}
