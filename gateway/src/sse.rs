//! Events to bytes, as the standard's parser reads them back.
//!
//! <https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation>

use std::{
    io::Write as _,
    time::{Duration, SystemTime},
};

use serde::Serialize;

use crate::{
    cursor::Cursor,
    horizon::Resync,
    notification::{EventName, UserId},
};

/// What `connected` says.
#[derive(Clone, Copy, Debug)]
pub struct Connected<'a> {
    /// Whose rows the stream carries.
    pub user: &'a UserId,
    /// How many streams the user has open on this gateway, with this one.
    pub connections: usize,
    /// The token's `exp`.
    pub expires_at: SystemTime,
    /// The time between two heartbeats, for the client's watchdog.
    pub heartbeat: Duration,
    /// How long the client waits before it reconnects.
    pub retry: Duration,
}

/// The first event of every stream.
pub fn connected(out: &mut Vec<u8>, id: Option<&Cursor>, connected: Connected<'_>) {
    #[derive(Serialize)]
    struct Data<'a> {
        user_id: &'a UserId,
        timestamp: String,
        connections: usize,
        expires_at: String,
        heartbeat_seconds: serde_json::Number,
    }
    let data = Data {
        user_id: connected.user,
        timestamp: rfc3339(SystemTime::now()),
        connections: connected.connections,
        expires_at: rfc3339(connected.expires_at),
        heartbeat_seconds: seconds(connected.heartbeat),
    };
    put_event(out, "connected", id, Some(connected.retry), &json(&data));
}

/// Without a fraction where there is none.
fn seconds(duration: Duration) -> serde_json::Number {
    let whole = duration.as_secs().into();
    let fraction = || serde_json::Number::from_f64(duration.as_secs_f64());
    if duration.subsec_nanos() == 0 { whole } else { fraction().unwrap_or(whole) }
}

/// A line that clients do not see. Proxies do, and cut what is silent for 30 s.
pub fn comment(out: &mut Vec<u8>) {
    out.extend_from_slice(b":\n");
}

/// The sign of life a client's watchdog waits for; `connections` is how many
/// streams the user has open on this gateway.
pub fn heartbeat(out: &mut Vec<u8>, id: &Cursor, connections: usize) {
    // By hand: it is what an idle gateway does all the time.
    out.extend_from_slice(b"event: heartbeat\ndata: {\"timestamp\":\"");
    let now = humantime::format_rfc3339_millis(SystemTime::now());
    let _never_fails = write!(out, "{now}\",\"connections\":{connections}}}");
    out.push(b'\n');
    finish(out, |out| id.encode(out));
}

/// The client cannot be given what it has missed: it is to fetch its list.
pub fn resync(out: &mut Vec<u8>, id: &Cursor, reason: Resync) {
    put_event(out, "resync", Some(id), None, &json(&Reason { reason: reason.reason() }));
}

/// The last event of a stream that the gateway ends, and the only one of a
/// request that it refuses; that one has no id.
pub fn closing(out: &mut Vec<u8>, id: Option<&Cursor>, reason: &'static str, retry: Duration) {
    let data = Reason { reason };
    put_event(out, "closing", id, Some(retry), &json(&data));
}

#[derive(Serialize)]
struct Reason {
    reason: &'static str,
}

/// A row's event, encoded once for all of its user's streams: everything but
/// the id, which each has its own of, and the end. `data` is its JSON as Postgres
/// wrote it.
pub fn notification(event: EventName<'_>, data: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + 32);
    put_fields(&mut out, event.as_str(), None, data.as_bytes());
    out
}

/// Ends an event that has everything but its id, which `put_id` appends if there
/// is one; says whether there was.
pub fn finish(out: &mut Vec<u8>, put_id: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
    let start = out.len();
    out.extend_from_slice(b"id: ");
    let has_id = put_id(out);
    if has_id {
        out.push(b'\n');
    } else {
        out.truncate(start);
    }
    out.push(b'\n');
    has_id
}

fn put_event(
    out: &mut Vec<u8>,
    name: &str,
    id: Option<&Cursor>,
    retry: Option<Duration>,
    data: &[u8],
) {
    put_fields(out, name, retry, data);
    finish(out, |out| id.is_some_and(|id| id.encode(out)));
}

fn put_fields(out: &mut Vec<u8>, name: &str, retry: Option<Duration>, data: &[u8]) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    if let Some(retry) = retry {
        out.extend_from_slice(b"\nretry: ");
        out.extend_from_slice(retry.as_millis().to_string().as_bytes());
    }
    // CR, LF and CRLF all end a line for the standard's parser. JSON holds them
    // only as white space between tokens; there, one `data:` line each gives
    // the client the same value.
    let mut rest = data;
    loop {
        out.extend_from_slice(b"\ndata: ");
        let Some(end) = memchr::memchr2(b'\r', b'\n', rest) else { break };
        out.extend_from_slice(&rest[..end]);
        rest = &rest[end + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'\n');
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // Strings and numbers in a struct of ours: there is nothing to fail on.
    serde_json::to_vec(value).unwrap_or_default()
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::Snapshot;

    fn text(encode: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        encode(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn cursor() -> Cursor {
        Cursor::new(1, Snapshot::empty().into())
    }

    fn id() -> String {
        text(|out| {
            finish(out, |out| cursor().encode(out));
        })
    }

    #[test]
    fn a_notification_is_one_data_line_and_its_id_comes_last() {
        let row = notification(EventName::NOTIFICATION, r#"{"title":"a\nb"}"#);
        let text = text(|out| {
            out.extend_from_slice(&row);
            assert!(finish(out, |out| out.write_all(b"abc").is_ok()));
        });
        assert_eq!(text, "event: notification\ndata: {\"title\":\"a\\nb\"}\nid: abc\n\n");
    }

    #[test]
    fn an_event_whose_id_does_not_fit_has_none() {
        let text = text(|out| {
            out.extend_from_slice(&notification(EventName::NOTIFICATION, "{}"));
            assert!(!finish(out, |_| false));
        });
        assert_eq!(text, "event: notification\ndata: {}\n\n");
    }

    #[test]
    fn line_ends_between_tokens_cannot_forge_an_event() {
        let bytes = notification(EventName::NOTIFICATION, "{\"metadata\":\r\n1,\r\"a\":2}");
        let text = std::str::from_utf8(&bytes).unwrap();
        assert_eq!(
            text,
            "event: notification\ndata: {\"metadata\":\ndata: \ndata: 1,\ndata: \"a\":2}\n"
        );
    }

    #[test]
    fn connected_names_the_user_and_when_the_token_ends() {
        let user = UserId::uuid(uuid::Uuid::from_u128(7));
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000);
        let retry = Duration::from_millis(1500);
        let said = Connected {
            user: &user,
            connections: 2,
            expires_at: end,
            heartbeat: Duration::from_secs(30),
            retry,
        };
        let text = text(|out| connected(out, Some(&cursor()), said));
        assert!(text.starts_with("event: connected\nretry: 1500\ndata: {\"user_id\":\""), "{text}");
        let rest =
            r#""connections":2,"expires_at":"2030-03-17T17:46:40.000Z","heartbeat_seconds":30}"#;
        assert!(text.contains(rest), "{text}");
        assert!(text.ends_with(&format!("\n{}", id())), "{text}");
    }

    #[test]
    fn a_heartbeat_has_the_time_and_how_many_streams_there_are() {
        let text = text(|out| heartbeat(out, &cursor(), 12));
        let data = text.strip_prefix("event: heartbeat\ndata: ").unwrap();
        let (data, rest) = data.split_once('\n').unwrap();
        assert_eq!(rest, id());
        let data: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["connections"], 12);
        let time = humantime::parse_rfc3339(data["timestamp"].as_str().unwrap()).unwrap();
        assert!(time.elapsed().unwrap() < Duration::from_secs(60));
    }

    #[test]
    fn closing_says_why_and_when_to_come_back() {
        let retry = Duration::from_secs(2);
        let text = text(|out| closing(out, Some(&cursor()), "shutdown", retry));
        let fields = "event: closing\nretry: 2000\ndata: {\"reason\":\"shutdown\"}\n";
        assert_eq!(text, format!("{fields}{}", id()));
    }
}
