//! Bytes to events, line by line:
//! <https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation>
//!
//! Nothing is allocated per event: a line that lies whole in a read is looked at
//! where it is, and data is searched for its marker rather than kept.

use memchr::memchr2;

use crate::marker::{Marker, Tag};

/// How much of an event's first data line is kept for people: the reasons of
/// `closing` and `resync` stand there.
const EXCERPT_BYTES: usize = 48;

/// An event as the browser would hand it to the page.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Event<'a> {
    /// `message` where the server gave no name.
    pub(crate) name: &'a [u8],
    /// The first marker in its data.
    pub(crate) marker: Option<Marker>,
    /// The beginning of its data.
    pub(crate) excerpt: &'a [u8],
}

/// An event stream, as far as it has come.
#[derive(Default)]
pub(super) struct Parser {
    /// The beginning of a line whose end has not arrived.
    partial: Vec<u8>,
    /// A CR ended the last line: an LF right after it belongs to it.
    after_cr: bool,
    /// The first line may begin with a byte order mark.
    is_under_way: bool,
    event: Building,
    last_event_id: Vec<u8>,
    retry_ms: Option<u64>,
}

/// The event whose empty line has not come yet.
#[derive(Default)]
struct Building {
    name: Vec<u8>,
    has_data: bool,
    marker: Option<Marker>,
    excerpt: Vec<u8>,
    /// The id of the last event that named one: it counts from the next empty
    /// line on.
    id: Vec<u8>,
}

impl Parser {
    pub(super) fn resuming(cursor: &[u8]) -> Self {
        let event = Building { id: cursor.to_vec(), ..Building::default() };
        Self { event, last_event_id: cursor.to_vec(), ..Self::default() }
    }

    pub(super) fn push(&mut self, mut bytes: &[u8], tag: &Tag, sink: &mut impl FnMut(Event<'_>)) {
        if self.after_cr
            && let Some((&first, rest)) = bytes.split_first()
        {
            self.after_cr = false;
            if first == b'\n' {
                bytes = rest;
            }
        }
        while let Some(end) = memchr2(b'\n', b'\r', bytes) {
            if self.partial.is_empty() {
                self.line(&bytes[..end], tag, sink);
            } else {
                let mut line = std::mem::take(&mut self.partial);
                line.extend_from_slice(&bytes[..end]);
                self.line(&line, tag, sink);
                line.clear();
                self.partial = line;
            }
            let is_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            if is_cr {
                match bytes.first() {
                    Some(b'\n') => bytes = &bytes[1..],
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
        }
        self.partial.extend_from_slice(bytes);
    }

    pub(super) fn last_event_id(&self) -> &[u8] {
        &self.last_event_id
    }

    pub(super) fn retry_ms(&self) -> Option<u64> {
        self.retry_ms
    }

    fn line(&mut self, mut line: &[u8], tag: &Tag, sink: &mut impl FnMut(Event<'_>)) {
        if !self.is_under_way {
            self.is_under_way = true;
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        if line.is_empty() {
            return self.dispatch(sink);
        }
        let colon = memchr::memchr(b':', line);
        let (field, value) = colon.map_or((line, &b""[..]), |at| (&line[..at], &line[at + 1..]));
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => self.event.data(value, tag),
            b"event" => replace(&mut self.event.name, value),
            b"id" if !value.contains(&0) => replace(&mut self.event.id, value),
            b"retry" => {
                let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                self.retry_ms = number.or(self.retry_ms);
            }
            // A comment, or a field to ignore.
            _ => {}
        }
    }

    fn dispatch(&mut self, sink: &mut impl FnMut(Event<'_>)) {
        if self.last_event_id != self.event.id {
            replace(&mut self.last_event_id, &self.event.id);
        }
        let event = &mut self.event;
        if event.has_data {
            let name = if event.name.is_empty() { &b"message"[..] } else { &event.name };
            sink(Event { name, marker: event.marker, excerpt: &event.excerpt });
        }
        event.name.clear();
        event.excerpt.clear();
        event.has_data = false;
        event.marker = None;
    }
}

impl Building {
    fn data(&mut self, value: &[u8], tag: &Tag) {
        if self.marker.is_none() {
            self.marker = tag.find(value);
        }
        if !self.has_data {
            self.excerpt.extend_from_slice(&value[..value.len().min(EXCERPT_BYTES)]);
        }
        self.has_data = true;
    }
}

fn replace(place: &mut Vec<u8>, value: &[u8]) {
    place.clear();
    place.extend_from_slice(value);
}
