//! The floor: the least that any program can do which brings what Postgres
//! notifies to open streams. One thread, one epoll loop; no authentication, no
//! cursor, no heartbeat, no guarantee: for each stream one `write` of a frame
//! that is ready.
//!
//! `floor BIND DATABASE_URL CHANNEL`

use std::{cell::RefCell, collections::HashMap, future::poll_fn, rc::Rc};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::LocalSet,
};
use tokio_postgres::{AsyncMessage, NoTls};

type Error = Box<dyn std::error::Error>;
type Streams = Rc<RefCell<HashMap<String, Vec<Rc<TcpStream>>>>>;

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
    cache-control: no-cache\r\nconnection: close\r\n\r\nevent: connected\ndata: {}\n\n";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("floor BIND DATABASE_URL CHANNEL");
    let (bind, url, channel) = (next()?, next()?, next()?);
    let (client, mut connection) = tokio_postgres::connect(&url, NoTls).await?;
    let streams = Streams::default();
    let publishing = {
        let streams = Rc::clone(&streams);
        async move {
            let mut frame = Vec::new();
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                let AsyncMessage::Notification(notification) = message else { continue };
                let payload = notification.payload();
                let Some(at) = payload.find("\"user_id\":\"") else { continue };
                let Some(user) = payload.get(at + 11..at + 47) else { continue };
                if let Some(streams) = streams.borrow().get(user) {
                    frame.clear();
                    frame.extend_from_slice(b"event: notification\ndata: ");
                    frame.extend_from_slice(payload.as_bytes());
                    frame.extend_from_slice(b"\n\n");
                    for stream in streams {
                        // What does not fit is lost: this is no gateway.
                        let _written = stream.try_write(&frame);
                    }
                }
            }
        }
    };
    let local = LocalSet::new();
    local.spawn_local(publishing);
    local
        .run_until(async move {
            client.batch_execute(&format!("LISTEN \"{channel}\"")).await?;
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            socket.bind(bind.parse()?)?;
            let listener = socket.listen(4096)?;
            loop {
                let (stream, _) = listener.accept().await?;
                tokio::task::spawn_local(serve(stream, Rc::clone(&streams)));
            }
        })
        .await
}

async fn serve(mut stream: TcpStream, streams: Streams) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut head = Vec::with_capacity(1024);
    while !head.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        if head.len() > 16_384 || stream.read_buf(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let user = user(std::str::from_utf8(&head).ok()?)?;
    stream.write_all(HEAD).await.ok()?;
    let stream = Rc::new(stream);
    streams.borrow_mut().entry(user.clone()).or_default().push(Rc::clone(&stream));
    let mut scratch = [0; 64];
    loop {
        stream.readable().await.ok()?;
        match stream.try_read(&mut scratch) {
            Ok(n) if n > 0 => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            _ => break,
        }
    }
    let mut streams = streams.borrow_mut();
    let mine = streams.get_mut(&user)?;
    mine.retain(|other| !Rc::ptr_eq(other, &stream));
    if mine.is_empty() {
        streams.remove(&user);
    }
    Some(())
}

/// Whom the token names; whether it is true is not asked.
fn user(head: &str) -> Option<String> {
    let at = head.find("Bearer ").map(|at| at + 7).or(head.find("access_token=").map(|at| at + 13))?;
    let claims = BASE64_URL_SAFE_NO_PAD.decode(head[at..].split('.').nth(1)?).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    Some(claims["sub"].as_str()?.to_owned())
}
