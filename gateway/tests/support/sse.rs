//! A client of the stream, written from the standard and not from the gateway.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Incoming, client::conn::http2::SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use notify_gateway::http::STREAM_PATH;
use serde_json::Value;
use tokio::{net::TcpStream, task::AbortHandle};
use uuid::Uuid;

use super::{PATIENCE, token};

/// An answer whose body is still on its way. Dropping it closes the connection.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    _connection: Option<Connection>,
}

struct Connection(AbortHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Response {
    pub(crate) async fn text(self) -> String {
        let body = tokio::time::timeout(PATIENCE, self.body.collect()).await.expect("a body");
        String::from_utf8(body.unwrap().to_bytes().to_vec()).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// One request on a connection of its own.
pub(crate) async fn request(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
) -> Response {
    let mut request = Request::builder().method(method).uri(target).header("host", "gateway.test");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    let asking = async {
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let connection = Connection(tokio::spawn(connection).abort_handle());
        (sender.send_request(request).await.unwrap(), connection)
    };
    let (response, connection) =
        tokio::time::timeout(PATIENCE, asking).await.expect("an answer in time");
    let (head, body) = response.into_parts();
    let (status, headers) = (head.status.as_u16(), head.headers);
    Response { status, headers, body, _connection: Some(connection) }
}

/// One HTTP/2 connection that carries many streams, as a proxy has it.
pub(crate) struct Http2 {
    sender: SendRequest<Empty<Bytes>>,
    _connection: Connection,
}

impl Http2 {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let handshake =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = handshake.await.unwrap();
        Self { sender, _connection: Connection(tokio::spawn(connection).abort_handle()) }
    }

    /// A stream of `user`.
    pub(crate) async fn open(&mut self, user: Uuid) -> EventSource {
        let request = Request::builder()
            .uri(format!("http://gateway.test{STREAM_PATH}"))
            .header("authorization", format!("Bearer {}", token(user)))
            .body(Empty::new())
            .unwrap();
        let response = tokio::time::timeout(PATIENCE, self.sender.send_request(request)).await;
        let (head, body) = response.expect("an answer in time").unwrap().into_parts();
        let (status, headers) = (head.status.as_u16(), head.headers);
        EventSource::of(Response { status, headers, body, _connection: None })
    }
}

/// An event as the browser hands it to the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) data: String,
    pub(crate) id: Option<String>,
    pub(crate) retry: Option<u64>,
}

impl Event {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|e| panic!("{e}: {:?}", self.data))
    }

    pub(crate) fn title(&self) -> String {
        self.json()["title"].as_str().unwrap().to_owned()
    }
}

/// An open stream.
pub(crate) struct EventSource {
    pub(crate) response: Response,
    buffer: String,
    ready: VecDeque<Event>,
    comments: usize,
}

impl EventSource {
    /// Connects as `user` and expects to be let in.
    pub(crate) async fn open(address: SocketAddr, user: Uuid) -> Self {
        let bearer = format!("Bearer {}", token(user));
        Self::open_with(address, STREAM_PATH, &[("authorization", &bearer)]).await
    }

    pub(crate) async fn open_with(
        address: SocketAddr,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Self {
        Self::of(request(address, "GET", target, headers).await)
    }

    pub(crate) fn of(response: Response) -> Self {
        assert_eq!(response.status, StatusCode::OK.as_u16());
        Self { response, buffer: String::new(), ready: VecDeque::new(), comments: 0 }
    }

    /// How many comments stood before the events read so far.
    pub(crate) fn comments(&self) -> usize {
        self.comments
    }

    /// The next event; panics when none comes.
    pub(crate) async fn next(&mut self) -> Event {
        self.next_or_end().await.expect("an event before the end of the stream")
    }

    /// The titles of the next `n` notifications, and the id of the last.
    pub(crate) async fn titles(&mut self, n: usize) -> (Vec<String>, String) {
        let mut titles = Vec::new();
        let mut id = None;
        for _ in 0..n {
            let event = self.next_but_heartbeat().await;
            assert_eq!(event.name, "notification", "{event:?}");
            titles.push(event.title());
            id = event.id;
        }
        (titles, id.expect("an id"))
    }

    /// The next event that is not a heartbeat.
    pub(crate) async fn next_but_heartbeat(&mut self) -> Event {
        let waiting = async {
            loop {
                let event = self.next().await;
                if event.name != "heartbeat" {
                    return event;
                }
            }
        };
        // Heartbeats alone would go on without an end.
        tokio::time::timeout(PATIENCE, waiting).await.expect("an event but a heartbeat, in time")
    }

    /// The next event, or none at the end of the stream.
    pub(crate) async fn next_or_end(&mut self) -> Option<Event> {
        self.next_within(PATIENCE).await
    }

    /// The same, where more time may pass without one.
    pub(crate) async fn next_within(&mut self, patience: Duration) -> Option<Event> {
        tokio::time::timeout(patience, self.read()).await.expect("an event or the end, in time")
    }

    /// Whether nothing but heartbeats comes for a while.
    pub(crate) async fn is_quiet_for(&mut self, time: Duration) -> bool {
        let reading = async {
            while let Some(event) = self.read().await {
                if event.name != "heartbeat" {
                    return;
                }
            }
        };
        tokio::time::timeout(time, reading).await.is_err()
    }

    async fn read(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let frame = self.response.body.frame().await?.ok()?;
            let data = frame.into_data().expect("no trailers");
            self.buffer += std::str::from_utf8(&data).expect("whole characters in a chunk");
            while let Some(end) = self.buffer.find("\n\n") {
                let block: String = self.buffer.drain(..end + 2).collect();
                self.comments += block.lines().filter(|line| line.starts_with(':')).count();
                self.ready.push_back(parse(&block));
            }
        }
    }
}

/// <https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation>
fn parse(block: &str) -> Event {
    let mut event = Event { name: "message".into(), data: String::new(), id: None, retry: None };
    let mut data: Vec<&str> = Vec::new();
    for line in block.split(['\n', '\r']) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => event.name = value.into(),
            "data" => data.push(value),
            "id" => event.id = Some(value.into()),
            "retry" => event.retry = Some(value.parse().unwrap()),
            "" => {}
            other => panic!("a field the standard does not know: {other}"),
        }
    }
    event.data = data.join("\n");
    event
}
