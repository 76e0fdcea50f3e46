//! Rows by HTTP, for servers that are told rather than listen: one POST a row.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{Mutex, mpsc},
    task::JoinSet,
    time::sleep,
};

use super::{Book, Job, Pace, on_time};
use crate::{
    clock,
    marker::Tag,
    request::{Url, fill},
    wire::{News, Response},
};

/// Where and how.
#[derive(Clone, Debug)]
pub(crate) struct Publisher {
    /// With `{user}` in its target.
    pub(crate) url: Url,
    pub(crate) headers: Vec<String>,
    /// With `{message}` in it.
    pub(crate) body: String,
    pub(crate) connections: usize,
}

impl Publisher {
    pub(super) async fn write(&self, job: &Job, book: &Arc<Book>) -> anyhow::Result<()> {
        let due = match job.pace {
            Pace::OnTime { from_ns } => on_time(&job.plan, from_ns),
            Pace::AsFastAsTaken { from_ns } => {
                sleep(clock::until(from_ns)).await;
                all_at_once(job.plan.len()).await?
            }
        };
        let due = Arc::new(Mutex::new(due));
        let mut tasks = JoinSet::new();
        for _ in 0..self.connections.max(1) {
            let (publisher, book, due) = (self.clone(), book.clone(), due.clone());
            tasks.spawn(async move {
                let mut connection = None;
                loop {
                    let Some(number) = due.lock().await.recv().await else { return };
                    let outcome = publisher.publish(&mut connection, &book, number).await;
                    if outcome.is_err() {
                        connection = None;
                    }
                    book.answered(number, outcome.map_err(|error| format!("{error:#}")));
                }
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.context("a writer has panicked")?;
        }
        Ok(())
    }

    async fn publish(
        &self,
        connection: &mut Option<TcpStream>,
        book: &Book,
        number: usize,
    ) -> anyhow::Result<()> {
        let outgoing = book.outgoing(number);
        let user = outgoing.users.first().copied().unwrap_or_default();
        let message = outgoing.messages.first().map_or("", String::as_str);
        let request = self.request(user, message);
        let socket = match connection {
            Some(socket) => socket,
            None => {
                let socket = TcpStream::connect(self.url.address).await.context("connecting")?;
                socket.set_nodelay(true)?;
                connection.insert(socket)
            }
        };
        book.sent(number);
        socket.write_all(&request).await.context("sending")?;
        let status = answer(socket).await?;
        anyhow::ensure!((200..300).contains(&status), "status {status}");
        Ok(())
    }

    fn request(&self, user: &str, message: &str) -> Vec<u8> {
        let body = self.body.replace("{message}", message);
        let mut out = b"POST ".to_vec();
        fill(&mut out, &self.url.target, user, "");
        let head =
            format!(" HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n", self.url.host, body.len());
        out.extend_from_slice(head.as_bytes());
        for header in &self.headers {
            fill(&mut out, header, user, "");
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(body.as_bytes());
        out
    }
}

/// Reads one answer to its end and returns its status.
async fn answer(socket: &mut TcpStream) -> anyhow::Result<u16> {
    let tag = Tag::new("");
    let mut response = Response::default();
    let mut status = None;
    let mut buffer = [0; 4096];
    loop {
        let count = socket.read(&mut buffer).await.context("reading")?;
        anyhow::ensure!(count > 0, "the server closed the connection");
        response.push(&buffer[..count], &tag, &mut |news| {
            if let News::Head(number) = news {
                status = Some(number);
            }
        })?;
        // 204 has no body: RFC 9112, section 6.3.
        if let Some(status) = status.filter(|&status| status == 204 || response.has_ended()) {
            return Ok(status);
        }
    }
}

async fn all_at_once(count: usize) -> anyhow::Result<mpsc::Receiver<usize>> {
    let (sender, receiver) = mpsc::channel(count.max(1));
    for number in 0..count {
        sender.send(number).await.context("the publishers are gone")?;
    }
    Ok(receiver)
}
