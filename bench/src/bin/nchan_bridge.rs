//! What nginx with nchan needs beside it to be a peer: whoever LISTENs and
//! publishes each row to its user's channel, over one connection that is kept.
//! What is ready goes out in one write, as HTTP/1.1 allows.
//!
//! `nchan_bridge DATABASE_URL CHANNEL PUBLISH_ADDRESS`

use std::future::poll_fn;

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
};
use tokio_postgres::{AsyncMessage, NoTls};
use uuid::Uuid;

/// Requests on their way at once.
const PIPELINED: usize = 64;

#[derive(Deserialize)]
struct Payload<'a> {
    user_id: Uuid,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().context("nchan_bridge DATABASE_URL CHANNEL PUBLISH_ADDRESS");
    let (url, channel, address) = (next()?, next()?, next()?);
    let (client, mut connection) = tokio_postgres::connect(&url, NoTls).await?;
    let (sender, mut requests) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(notification) = message
                && let Ok(payload) = serde_json::from_str(notification.payload())
                && sender.send(request(&payload)).is_err()
            {
                return;
            }
        }
    });
    client.batch_execute(&format!("LISTEN \"{channel}\"")).await?;
    let mut nchan = TcpStream::connect(address).await?;
    nchan.set_nodelay(true)?;
    let (mut batch, mut answers) = (Vec::with_capacity(PIPELINED), Vec::new());
    loop {
        let count = requests.recv_many(&mut batch, PIPELINED).await;
        ensure!(count > 0, "Postgres is gone");
        nchan.write_all(&batch.concat()).await?;
        batch.clear();
        for _ in 0..count {
            answered(&mut nchan, &mut answers).await?;
        }
    }
}

fn request(Payload { user_id, data }: &Payload<'_>) -> Vec<u8> {
    let data = data.get();
    format!(
        "POST /pub/{user_id} HTTP/1.1\r\nHost: nchan\r\nX-EventSource-Event: notification\r\n\
         Content-Length: {}\r\n\r\n{data}",
        data.len()
    )
    .into_bytes()
}

/// Waits for the next answer; `received` keeps what has come of those after it.
async fn answered(nchan: &mut TcpStream, received: &mut Vec<u8>) -> anyhow::Result<()> {
    loop {
        if let Some(length) = answer_length(received)? {
            received.drain(..length);
            return Ok(());
        }
        ensure!(nchan.read_buf(received).await? > 0, "nginx is gone");
    }
}

/// The bytes of the first answer in `received`, when all of it is there.
fn answer_length(received: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some(end) = memchr::memmem::find(received, b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&received[..end])?.to_ascii_lowercase();
    ensure!(head.starts_with("http/1.1 20"), "nginx refuses: {head}");
    let body = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length = end + 4 + body.context("an answer without a length")?.trim().parse::<usize>()?;
    Ok((received.len() >= length).then_some(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_as_long_as_its_head_says() {
        let answers = b"HTTP/1.1 202 Accepted\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 201";
        assert_eq!(answer_length(answers).unwrap(), Some(answers.len() - 12));
        assert_eq!(answer_length(&answers[..40]).unwrap(), None);
        assert_eq!(answer_length(&answers[..46]).unwrap(), None);
        assert!(answer_length(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").is_err());
    }
}
