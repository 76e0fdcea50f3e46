//! The bytes of one answer, from its status line to its events: pure, fed with
//! whatever a read brings.

mod chunked;
mod head;
mod sse;

pub(crate) use sse::Event;

use crate::marker::Tag;
use chunked::Chunked;
use head::Framing;

/// One answer, as far as it has come.
#[derive(Default)]
pub(crate) struct Response {
    stage: Stage,
    events: sse::Parser,
}

#[derive(Default)]
enum Stage {
    #[default]
    Head,
    /// The head's bytes are kept until it is whole.
    PartOfHead(Vec<u8>),
    Body(Framing),
    Ended,
}

/// What [`Response::push`] tells of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News<'a> {
    /// The head is there, with this status.
    Head(u16),
    /// An event.
    Event(Event<'a>),
}

impl Response {
    /// The answer to a request with this cursor: it stays the stream's until an
    /// event brings another.
    pub(crate) fn resuming(cursor: &[u8]) -> Self {
        Self { stage: Stage::Head, events: sse::Parser::resuming(cursor) }
    }

    /// Takes what has been read and tells `sink` what it completes.
    pub(crate) fn push(
        &mut self,
        mut bytes: &[u8],
        tag: &Tag,
        sink: &mut impl FnMut(News<'_>),
    ) -> Result<(), WireError> {
        if matches!(self.stage, Stage::Head | Stage::PartOfHead(_)) {
            let mut kept = match std::mem::take(&mut self.stage) {
                Stage::PartOfHead(kept) => kept,
                _ => Vec::new(),
            };
            let Some(rest) = head::take(&mut kept, bytes)? else {
                self.stage = Stage::PartOfHead(kept);
                return Ok(());
            };
            let head = head::parse(&kept)?;
            self.stage = Stage::Body(head.framing);
            sink(News::Head(head.status));
            bytes = rest;
        }
        self.push_body(bytes, tag, sink)
    }

    /// Whether the body has ended by itself: what follows is no part of it.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.stage, Stage::Ended)
    }

    /// What a browser would send as `Last-Event-ID`; empty when it has none.
    pub(crate) fn last_event_id(&self) -> &[u8] {
        self.events.last_event_id()
    }

    /// The last `retry:`, in milliseconds.
    pub(crate) fn retry_ms(&self) -> Option<u64> {
        self.events.retry_ms()
    }

    fn push_body(
        &mut self,
        bytes: &[u8],
        tag: &Tag,
        sink: &mut impl FnMut(News<'_>),
    ) -> Result<(), WireError> {
        let Stage::Body(framing) = &mut self.stage else { return Ok(()) };
        let events = &mut self.events;
        let mut deliver =
            |body: &[u8]| events.push(body, tag, &mut |event| sink(News::Event(event)));
        let ended = match framing {
            Framing::Chunked(chunked) => {
                chunked.decode(bytes, &mut deliver)?;
                chunked.has_ended()
            }
            Framing::Length(left) => {
                let take = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                deliver(&bytes[..take]);
                *left -= take as u64;
                *left == 0
            }
            Framing::UntilClose => {
                deliver(bytes);
                false
            }
        };
        if ended {
            self.stage = Stage::Ended;
        }
        Ok(())
    }
}

impl Default for Framing {
    fn default() -> Self {
        Self::Chunked(Chunked::default())
    }
}

/// Bytes that are no HTTP/1.1 answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    /// The head is over its bound.
    #[error("the answer's head is over 64 KiB")]
    HeadTooLong,
    /// No status line.
    #[error("the answer is not HTTP/1")]
    NotHttp,
    /// A chunk without a length, or without its end.
    #[error("the answer's chunks are malformed")]
    Chunk,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::marker::Marker;

    /// What came, in a form that can be kept and compared.
    #[derive(Clone, Debug, PartialEq, Eq)]
    enum Came {
        Head(u16),
        Event { name: String, marker: Option<Marker>, excerpt: String },
    }

    fn read(pieces: &[&[u8]]) -> (Vec<Came>, Vec<u8>, bool) {
        let tag = Tag::new("r");
        let mut response = Response::default();
        let mut came = Vec::new();
        for piece in pieces {
            response
                .push(piece, &tag, &mut |news| {
                    came.push(match news {
                        News::Head(status) => Came::Head(status),
                        News::Event(event) => Came::Event {
                            name: String::from_utf8_lossy(event.name).into_owned(),
                            marker: event.marker,
                            excerpt: String::from_utf8_lossy(event.excerpt).into_owned(),
                        },
                    });
                })
                .unwrap();
        }
        (came, response.last_event_id().to_vec(), response.has_ended())
    }

    fn chunked(body: &[u8], sizes: &[usize]) -> Vec<u8> {
        let mut out = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        let (mut left, mut sizes) = (body, sizes.iter().cycle());
        while !left.is_empty() {
            let size = (*sizes.next().unwrap()).clamp(1, left.len());
            out.extend_from_slice(format!("{size:x};ext=1\r\n").as_bytes());
            out.extend_from_slice(&left[..size]);
            out.extend_from_slice(b"\r\n");
            left = &left[size..];
        }
        out.extend_from_slice(b"0\r\nTrailer: x\r\n\r\n");
        out
    }

    const BODY: &[u8] =
        b"\xef\xbb\xbfevent: connected\nid: 1\nretry: 1500\ndata: {}\n\n: a comment\r\n\
        event: notification\r\ndata: {\"message\":\"nglt:r:3:2:1:99\"}\r\nid: 2\r\n\r\n\
        data: first\rdata: nglt:r:4:0:0:7 second\r\rid: 3\n\nid: not committed\ndata: half";

    #[test]
    fn an_answer_is_read_as_the_standard_says() {
        let (came, id, ended) = read(&[&chunked(BODY, &[BODY.len()])]);
        let marker = |user, transaction, position, intended_ns| {
            Some(Marker { user, transaction, position, intended_ns })
        };
        let event = |name: &str, marker, excerpt: &str| Came::Event {
            name: name.into(),
            marker,
            excerpt: excerpt.into(),
        };
        let expected = [
            Came::Head(200),
            event("connected", None, "{}"),
            event("notification", marker(3, 2, 1, 99), "{\"message\":\"nglt:r:3:2:1:99\"}"),
            event("message", marker(4, 0, 0, 7), "first"),
        ];
        assert_eq!(came, expected);
        assert_eq!(id, b"3", "an id without data counts, an unfinished event's does not");
        assert!(ended);
    }

    #[test]
    fn a_body_without_chunks_goes_on_until_the_connection_ends() {
        let (came, _, ended) = read(&[b"HTTP/1.0 200 OK\r\n\r\ndata: x\n\n"]);
        assert_eq!(came.len(), 2);
        assert!(!ended);
    }

    #[test]
    fn a_body_with_a_length_ends_there() {
        let (came, _, ended) =
            read(&[b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\nnodata: x\n\n"]);
        assert_eq!(came, [Came::Head(401)]);
        assert!(ended);
    }

    #[test]
    fn what_is_no_http_is_an_error() {
        let error = |bytes: &[u8]| {
            Response::default().push(bytes, &Tag::new("r"), &mut |_| {}).unwrap_err()
        };
        assert_eq!(error(b"SSH-2.0-x\r\n\r\n"), WireError::NotHttp);
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        assert_eq!(error(format!("{head}zz\r\n").as_bytes()), WireError::Chunk);
        assert_eq!(error(format!("{head}1\r\nabc").as_bytes()), WireError::Chunk);
        assert_eq!(error(&[b'x'; 70_000]), WireError::HeadTooLong);
    }

    proptest! {
        #[test]
        fn any_chunking_and_any_reads_give_the_same_events(
            chunks in prop::collection::vec(1usize..40, 1..20),
            mut cuts in prop::collection::vec(0usize..400, 0..40),
        ) {
            let bytes = chunked(BODY, &chunks);
            cuts.iter_mut().for_each(|cut| *cut = (*cut).min(bytes.len()));
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(read(&pieces), read(&[&chunked(BODY, &[BODY.len()])]));
        }
    }
}
