//! A reader that is slower than its rows loses nothing and costs nobody memory.

use std::time::Duration;

use notify_gateway::http::STREAM_PATH;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpSocket,
};
use uuid::Uuid;

use crate::support::{Database, PATIENCE, TestGateway, eventually, token};

const ROWS: usize = 5000;

fn insert(user: Uuid) -> String {
    format!(
        "INSERT INTO notifications (user_id, title, message)
         SELECT '{user}', n, repeat('x', 500) FROM generate_series(1, {ROWS}) n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fast_reader_gets_a_transaction_of_thousands_of_rows_in_order() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &[]).await;
    let user = Uuid::new_v4();
    let mut stream = gateway.connect(user).await;

    database.client.batch_execute(&insert(user)).await.unwrap();

    let (titles, id) = stream.titles(ROWS).await;
    assert_eq!(titles, (1..=ROWS).map(|n| n.to_string()).collect::<Vec<_>>());
    assert!(id.len() <= 2048);
    database.insert(user, "live").await;
    assert_eq!(stream.titles(1).await.0, ["live"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_gets_all_of_it_at_its_own_pace_and_others_do_not_wait() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &["--stream-buffer", "16"]).await;
    let user = Uuid::new_v4();
    // A socket that takes next to nothing until it is read.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut slow = socket.connect(gateway.address).await.unwrap();
    let head = format!("GET {STREAM_PATH}?access_token={} HTTP/1.0\r\n\r\n", token(user));
    slow.write_all(head.as_bytes()).await.unwrap();
    eventually("it is connected", async || gateway.metric("sse_connections_total").await > 0.5)
        .await;
    let mut quick = gateway.connect(user).await;

    database.client.batch_execute(&insert(user)).await.unwrap();
    let (titles, _) = quick.titles(ROWS).await;
    assert_eq!(titles.len(), ROWS);
    // A socket that takes nothing asks for nothing: it lags when it reads on.
    let mut bytes = Vec::new();
    let lagging = async {
        while gateway.metric("notify_gateway_lagging_streams").await < 0.5 {
            let mut buffer = [0; 4096];
            let n = slow.try_read(&mut buffer).unwrap_or(0);
            bytes.extend_from_slice(&buffer[..n]);
        }
    };
    tokio::time::timeout(PATIENCE, lagging).await.expect("it is known to lag");

    let mut text = String::new();
    let reading = async {
        let mut buffer = vec![0; 65_536];
        let event = b"event: notification\n";
        while bytes.windows(event.len()).filter(|w| w == event).count() < ROWS {
            let n = slow.read(&mut buffer).await.unwrap();
            assert_ne!(n, 0, "the stream was closed");
            bytes.extend_from_slice(&buffer[..n]);
            if bytes.len() < 400_000 {
                tokio::time::sleep(Duration::from_millis(1)).await;
                continue;
            }
            // Counting is quadratic; read on in large pieces.
            while let Ok(Ok(n)) =
                tokio::time::timeout(Duration::from_millis(300), slow.read(&mut buffer)).await
            {
                assert_ne!(n, 0, "the stream was closed");
                bytes.extend_from_slice(&buffer[..n]);
            }
        }
        text = String::from_utf8(bytes).unwrap();
    };
    tokio::time::timeout(PATIENCE * 2, reading).await.unwrap();
    let titles: Vec<usize> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .filter_map(|data| serde_json::from_str::<serde_json::Value>(data).ok())
        .filter_map(|data| data["title"].as_str()?.parse().ok())
        .collect();
    assert_eq!(titles, (1..=ROWS).collect::<Vec<_>>());
    eventually("it has caught up", async || {
        gateway.metric("notify_gateway_lagging_streams").await < 0.5
    })
    .await;
}
