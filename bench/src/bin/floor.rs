//! The floor: the least that any program can do which brings what Postgres
//! notifies to open streams. One thread, one epoll loop; no authentication, no
//! cursor, no guarantee: for each stream one `write` of a frame that is ready.
//!
//! `floor BIND DATABASE_URL CHANNEL HEARTBEAT_SECONDS [gather]`
//!
//! With `gather` it takes all notifications that can be read at once, and then does
//! one `write` for each stream of all that is for it: less work for each row, and the
//! first of them waits for the last.

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    future::poll_fn,
    rc::{Rc, Weak},
    task::Poll,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::{LocalSet, spawn_local},
    time::{MissedTickBehavior, interval},
};
use tokio_postgres::{AsyncMessage, Connection, NoTls, Socket, tls::NoTlsStream};

type Error = Box<dyn std::error::Error>;

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
    cache-control: no-cache\r\nconnection: close\r\n\r\nevent: connected\ndata: {}\n\n";

const HEARTBEAT: &[u8] = b"event: heartbeat\ndata: {}\n\n";

/// Heartbeats are spread: so many times in their interval a share of the streams
/// has its turn.
const TURNS: u32 = 100;

#[derive(Default)]
struct Streams {
    by_user: RefCell<HashMap<String, Vec<Rc<TcpStream>>>>,
    /// In the order of their next heartbeats.
    beating: RefCell<VecDeque<Weak<TcpStream>>>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("floor BIND DATABASE_URL CHANNEL HEARTBEAT_SECONDS");
    let (bind, url, channel) = (next()?, next()?, next()?);
    let heartbeat = Duration::from_secs(next()?.parse()?);
    let gathers = next().is_ok_and(|word| word == "gather");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    let streams = Rc::new(Streams::default());
    let local = LocalSet::new();
    if gathers {
        local.spawn_local(gather(connection, Rc::clone(&streams)));
    } else {
        local.spawn_local(publish(connection, Rc::clone(&streams)));
    }
    local.spawn_local(beat(heartbeat, Rc::clone(&streams)));
    local
        .run_until(async move {
            client.batch_execute(&format!("LISTEN \"{channel}\"")).await?;
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            socket.bind(bind.parse()?)?;
            let listener = socket.listen(4096)?;
            loop {
                let (stream, _) = listener.accept().await?;
                spawn_local(serve(stream, Rc::clone(&streams)));
            }
        })
        .await
}

async fn publish(mut connection: Connection<Socket, NoTlsStream>, streams: Rc<Streams>) {
    let mut frame = Vec::new();
    while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
        let AsyncMessage::Notification(notification) = message else { continue };
        let Some((user, data)) = row(notification.payload()) else { continue };
        if let Some(streams) = streams.by_user.borrow().get(user) {
            frame.clear();
            write_frame(&mut frame, data);
            for stream in streams {
                // What does not fit is lost: this is no gateway.
                let _written = stream.try_write(&frame);
            }
        }
    }
}

async fn gather(mut connection: Connection<Socket, NoTlsStream>, streams: Rc<Streams>) {
    let mut gathered: HashMap<String, Vec<u8>> = HashMap::new();
    let mut spare: Vec<Vec<u8>> = Vec::new();
    loop {
        let is_open = poll_fn(|cx| {
            loop {
                match connection.poll_message(cx) {
                    Poll::Ready(Some(Ok(AsyncMessage::Notification(notification)))) => {
                        let Some((user, data)) = row(notification.payload()) else { continue };
                        if let Some(frames) = gathered.get_mut(user) {
                            write_frame(frames, data);
                        } else if streams.by_user.borrow().contains_key(user) {
                            let mut frames = spare.pop().unwrap_or_default();
                            write_frame(&mut frames, data);
                            gathered.insert(user.to_owned(), frames);
                        }
                    }
                    Poll::Ready(Some(Ok(_))) => {}
                    Poll::Ready(_) => return Poll::Ready(false),
                    Poll::Pending if gathered.is_empty() => return Poll::Pending,
                    Poll::Pending => return Poll::Ready(true),
                }
            }
        })
        .await;
        let by_user = streams.by_user.borrow();
        for (user, mut frames) in gathered.drain() {
            for stream in by_user.get(&user).into_iter().flatten() {
                let _written = stream.try_write(&frames);
            }
            frames.clear();
            spare.push(frames);
        }
        if !is_open {
            return;
        }
    }
}

/// The user and the data of `{"user_id" : "…", "data" : {…}}`, as `json_build_object`
/// writes it.
fn row(payload: &str) -> Option<(&str, &str)> {
    let (user, rest) = payload.strip_prefix("{\"user_id\" : \"")?.split_at_checked(36)?;
    Some((user, rest.strip_prefix("\", \"data\" : ")?.strip_suffix('}')?))
}

fn write_frame(out: &mut Vec<u8>, data: &str) {
    out.extend_from_slice(b"event: notification\ndata: ");
    out.extend_from_slice(data.as_bytes());
    out.extend_from_slice(b"\n\n");
}

async fn beat(every: Duration, streams: Rc<Streams>) {
    let mut turns = interval(every / TURNS);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        let mut beating = streams.beating.borrow_mut();
        for _ in 0..beating.len().div_ceil(TURNS as usize) {
            let next = beating.pop_front();
            if let Some(stream) = next.as_ref().and_then(Weak::upgrade) {
                let _written = stream.try_write(HEARTBEAT);
                beating.extend(next);
            }
        }
    }
}

async fn serve(stream: TcpStream, streams: Rc<Streams>) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let (stream, user) = greet(stream).await?;
    let stream = Rc::new(stream);
    streams.by_user.borrow_mut().entry(user.clone()).or_default().push(Rc::clone(&stream));
    streams.beating.borrow_mut().push_back(Rc::downgrade(&stream));
    let mut scratch = [0; 64];
    loop {
        stream.readable().await.ok()?;
        match stream.try_read(&mut scratch) {
            Ok(n) if n > 0 => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            _ => break,
        }
    }
    let mut by_user = streams.by_user.borrow_mut();
    let mine = by_user.get_mut(&user)?;
    mine.retain(|other| !Rc::ptr_eq(other, &stream));
    if mine.is_empty() {
        by_user.remove(&user);
    }
    Some(())
}

async fn greet(mut stream: TcpStream) -> Option<(TcpStream, String)> {
    let mut head = Vec::with_capacity(1024);
    while !head.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        if head.len() > 16_384 || stream.read_buf(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let user = user(std::str::from_utf8(&head).ok()?)?;
    stream.write_all(HEAD).await.ok()?;
    Some((stream, user))
}

/// Whom the token names; whether it is true is not asked.
fn user(head: &str) -> Option<String> {
    let at =
        head.find("Bearer ").map(|at| at + 7).or(head.find("access_token=").map(|at| at + 13))?;
    let claims = BASE64_URL_SAFE_NO_PAD.decode(head[at..].split('.').nth(1)?).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    Some(claims["sub"].as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_its_user_and_its_data() {
        let user = "11111111-2222-3333-4444-555555555555";
        let payload = format!("{{\"user_id\" : \"{user}\", \"data\" : {{\"id\":\"1\"}}}}");
        assert_eq!(row(&payload), Some((user, "{\"id\":\"1\"}")));
        assert_eq!(row("{}"), None);
    }
}
