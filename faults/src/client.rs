//! An honest page: reads one user's stream, keeps the last `id`, comes back
//! with it after every cut. Written from the standard, not from the gateway.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::{Buf as _, Bytes, BytesMut};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    net::TcpSocket,
    task::AbortHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    gateway::HEARTBEAT,
    ledger::{Delivery, Ledger, LineageNo, Moment, What},
};

/// Silence after which a page takes its stream for dead: two heartbeats may be
/// late, not lost.
const WATCHDOG: Duration = Duration::from_millis(2_500 * HEARTBEAT.as_secs());

/// A `retry:` is honoured up to this: a run has no time for real ones.
const MAX_RETRY: Duration = Duration::from_secs(2);

/// Whose page, and by which roads it reaches the gateways.
pub(crate) struct Client {
    pub(crate) number: usize,
    pub(crate) user: usize,
    pub(crate) token: String,
    /// The ports of the proxies before the gateways.
    pub(crate) ports: Vec<u16>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) rng: fastrand::Rng,
    /// Set near the end: no more cuts of one's own, no more absences.
    pub(crate) calm: CancellationToken,
    /// Whether a page may cut itself, stop reading, or go away at all.
    pub(crate) moody: Arc<AtomicBool>,
}

/// What a page keeps over its reconnects.
struct Page {
    lineage: Option<LineageNo>,
    cursor: Option<Arc<str>>,
    retry: Duration,
}

impl Client {
    /// Reads and reconnects until dropped.
    pub(crate) async fn run(mut self) {
        let mut page = Page { lineage: None, cursor: None, retry: Duration::from_millis(200) };
        loop {
            let why = match self.follow(&mut page).await {
                Ok(why) | Err(End(why)) => why,
            };
            if let Some(lineage) = page.lineage {
                let now = self.ledger.now();
                self.ledger.books().cut(lineage, why, now);
            } else {
                self.ledger.books().count(format!("no lineage yet: {why}"));
            }
            self.back_off(&page).await;
        }
    }

    /// One connection, to its end.
    async fn follow(&mut self, page: &mut Page) -> Result<&'static str, End> {
        let gateway = self.rng.usize(0..self.ports.len());
        let mut body = timeout(WATCHDOG, self.connect(gateway, page.cursor.as_deref()))
            .await
            .map_err(|_| End("no answer to the request"))??;
        let with_cursor = page.cursor.is_some();
        let mut parser = Parser::default();
        loop {
            while let Some(event) = parser.next() {
                let ends = event.name == "closing";
                self.take(page, event, gateway, with_cursor);
                if ends {
                    return Ok("closing");
                }
                if self.is_moody() && self.rng.u16(0..1000) < 8 {
                    // What stands behind it in the buffer was never received.
                    return Ok("own");
                }
            }
            if self.is_moody() && self.rng.u16(0..1000) < 3 {
                sleep(Duration::from_millis(self.rng.u64(500..4000))).await;
            }
            let Ok(frame) = timeout(WATCHDOG, body.0.frame()).await else {
                return Ok("watchdog");
            };
            match frame {
                Some(Ok(frame)) => parser.push(&frame.into_data().unwrap_or_default()),
                Some(Err(_)) => return Ok("broken"),
                None => return Ok("end without closing"),
            }
        }
    }

    async fn connect(&mut self, gateway: usize, cursor: Option<&str>) -> Result<Body, End> {
        let unreachable = |_| End("unreachable");
        let socket = TcpSocket::new_v4().map_err(unreachable)?;
        if self.rng.u8(0..4) == 0 {
            // A narrow path: a pause in reading is felt by the gateway sooner.
            socket.set_recv_buffer_size(4096).map_err(unreachable)?;
        }
        let address = (Ipv4Addr::LOCALHOST, self.ports[gateway]).into();
        let stream = socket.connect(address).await.map_err(unreachable)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|_| End("unreachable"))?;
        let connection = Connection(tokio::spawn(connection).abort_handle());
        let request = self.request(cursor).ok_or(End("a cursor that is no header"))?;
        let response = sender.send_request(request).await.map_err(|_| End("no answer"))?;
        if response.status() != StatusCode::OK {
            let status = response.status().as_u16();
            self.ledger.books().count(format!("refused: {status}"));
            return Err(End("refused"));
        }
        Ok(Body(response.into_body(), connection))
    }

    fn request(&mut self, cursor: Option<&str>) -> Option<Request<Empty<Bytes>>> {
        let path = "/api/notifications/stream";
        let request = Request::get(path)
            .header("host", "gateway.test")
            .header("accept", "text/event-stream")
            .header("authorization", format!("Bearer {}", self.token));
        let request = match cursor {
            // A new EventSource object cannot set the header; it is opaque, so
            // it is escaped to the last byte.
            Some(cursor) if self.rng.bool() => {
                let escaped: String = cursor.bytes().map(|byte| format!("%{byte:02X}")).collect();
                request.uri(format!("{path}?last_event_id={escaped}"))
            }
            Some(cursor) => request.header("last-event-id", cursor),
            None => request,
        };
        request.body(Empty::new()).ok()
    }

    /// Enters an event into the books.
    fn take(&mut self, page: &mut Page, event: Event, gateway: usize, with_cursor: bool) {
        let now = self.ledger.now();
        let mut books = self.ledger.books();
        if let Some(retry) = event.retry {
            page.retry = retry.min(MAX_RETRY);
        }
        let cursor = event.id.as_deref().map(Arc::<str>::from);
        // Before the first `connected` there is nothing to begin a lineage.
        let lineage = match (page.lineage, event.name.as_str()) {
            (Some(lineage), _) => lineage,
            (None, "connected") => books.begin_lineage(self.number, self.user, now),
            (None, other) => return books.count(format!("no lineage yet: {other}")),
        };
        page.lineage = Some(lineage);
        let changed = Change::parse(&event).filter(|change| books.states.include(change.id));
        match (changed, event.name.as_str()) {
            (Some(Change { id, title }), name) => {
                let what = What::Event(format!("{name} {id} {title:?}"));
                let moment = Moment { at: now, what, cursor: cursor.clone() };
                books.changed(lineage, (id, title), moment);
            }
            (None, "notification") => match Notification::parse(&event.data) {
                Some(row) => {
                    let Notification { id, title, message_bytes, data } = row;
                    let title = title.as_str();
                    let cursor = cursor.clone();
                    let delivery = Delivery { id, title, message_bytes, data, cursor };
                    books.delivered(lineage, delivery, now);
                }
                None => books.count("not readable"),
            },
            (None, "connected") => {
                let what = What::Connected { gateway, with_cursor };
                books.moment(lineage, what, cursor.clone(), now);
            }
            (None, "resync") => {
                books.moment(lineage, What::Event(event.name), cursor.clone(), now);
                page.lineage = Some(books.resync(lineage, &reason(&event.data), now));
                page.cursor = None;
            }
            (None, other) => {
                if other == "closing" {
                    books.count(format!("closing: {}", reason(&event.data)));
                }
                books.moment(lineage, What::Event(event.name), cursor.clone(), now);
            }
        }
        if let Some(cursor) = cursor {
            // An empty id takes the last one back.
            page.cursor = Some(cursor).filter(|cursor| !cursor.is_empty());
        }
    }

    async fn back_off(&mut self, page: &Page) {
        let mut pause = page.retry.mul_f64(0.5 + self.rng.f64() / 2.0);
        if self.is_moody() {
            pause = match self.rng.u8(0..100) {
                // The lid is closed for a while, and the cursor ages.
                0..3 => Duration::from_millis(self.rng.u64(5_000..30_000)),
                3..40 => Duration::from_millis(self.rng.u64(0..50)),
                _ => pause,
            };
        }
        let calm = self.calm.clone();
        let is_calm = calm.is_cancelled();
        tokio::select! {
            () = sleep(pause) => {}
            () = calm.cancelled(), if !is_calm => {}
        }
    }

    fn is_moody(&self) -> bool {
        self.moody.load(Ordering::Relaxed) && !self.calm.is_cancelled()
    }
}

/// Why a connection ended.
struct End(&'static str);

/// A body, and the connection it comes on, which ends when it is dropped.
struct Body(Incoming, #[allow(dead_code, reason = "held for its drop")] Connection);

struct Connection(AbortHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What the page shows.
struct Notification {
    id: uuid::Uuid,
    title: String,
    message_bytes: usize,
    data: u64,
}

impl Notification {
    fn parse(data: &str) -> Option<Self> {
        let json: Value = serde_json::from_str(data).ok()?;
        let text = |name: &str| json.get(name)?.as_str();
        let mut hasher = DefaultHasher::new();
        data.hash(&mut hasher);
        Some(Self {
            id: text("id")?.parse().ok()?,
            title: text("title")?.to_owned(),
            message_bytes: text("message")?.len(),
            data: hasher.finish(),
        })
    }
}

/// What becomes of a row that changes.
struct Change {
    id: uuid::Uuid,
    /// None when it is gone.
    title: Option<String>,
}

impl Change {
    fn parse(event: &Event) -> Option<Self> {
        let is_there = match event.name.as_str() {
            "notification" | "updated" => true,
            "deleted" => false,
            _ => return None,
        };
        let json: Value = serde_json::from_str(&event.data).ok()?;
        let id = json.get("id")?.as_str()?.parse().ok()?;
        let title = json.get("title").and_then(Value::as_str).map(str::to_owned);
        Some(Self { id, title: title.filter(|_| is_there) })
    }
}

fn reason(data: &str) -> String {
    let json: Option<Value> = serde_json::from_str(data).ok();
    let reason = json.as_ref().and_then(|json| json.get("reason")?.as_str());
    reason.unwrap_or("no reason given").to_owned()
}

/// An event as the browser hands it to the page.
#[derive(Debug, Default, PartialEq, Eq)]
struct Event {
    name: String,
    data: String,
    /// None where the event has no `id:` line; the cursor then stays.
    id: Option<String>,
    retry: Option<Duration>,
}

/// Bytes to events. An event is there when its empty line is: half of one does
/// not count, for the page or for its cursor.
#[derive(Default)]
struct Parser {
    buffer: BytesMut,
    /// Bytes known to hold no end of an event.
    searched: usize,
}

impl Parser {
    fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    fn next(&mut self) -> Option<Event> {
        // The gateway ends lines with LF; the standard's CR and CRLF would show
        // here as streams that never bring an event.
        let from = self.searched.saturating_sub(1);
        let Some(end) = self.buffer[from..].windows(2).position(|pair| pair == b"\n\n") else {
            self.searched = self.buffer.len();
            return None;
        };
        self.searched = 0;
        let block = self.buffer.split_to(from + end + 1);
        self.buffer.advance(1);
        Some(parse(&String::from_utf8_lossy(&block)))
    }
}

/// <https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation>
fn parse(block: &str) -> Event {
    let mut event = Event { name: "message".into(), ..Event::default() };
    let mut lines = Vec::new();
    for line in block.split('\n') {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => event.name = value.to_owned(),
            "data" => lines.push(value),
            "id" if !value.contains('\0') => event.id = Some(value.to_owned()),
            "retry" => event.retry = value.parse().ok().map(Duration::from_millis),
            _ => {}
        }
    }
    event.data = lines.join("\n");
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_counts_when_its_empty_line_has_arrived() {
        let mut parser = Parser::default();
        for byte in b"event: a\nid: 7\nretry: 20\ndata: x\ndata: y\n" {
            parser.push(&[*byte]);
            assert_eq!(parser.next(), None);
        }
        parser.push(b"\ndata");
        let event = parser.next().unwrap();
        assert_eq!((event.name.as_str(), event.data.as_str()), ("a", "x\ny"));
        assert_eq!(event.id.as_deref(), Some("7"));
        assert_eq!(event.retry, Some(Duration::from_millis(20)));
        assert_eq!(parser.next(), None);
        parser.push(b": z\n\n");
        assert_eq!(parser.next().unwrap().id, None);
    }
}
