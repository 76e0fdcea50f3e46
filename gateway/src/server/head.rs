//! The head of a request: bytes → what is asked. Pure.

use bytes::{Buf as _, BytesMut};
use http::{HeaderName, HeaderValue, Method, Request, Uri, Version, header};

/// A head is at most this long, and has at most so many fields; a longer one is
/// 431.
pub(crate) const MAX_HEAD_BYTES: usize = 16 * 1024;
const MAX_FIELDS: usize = 100;

/// What an HTTP/2 client begins with (RFC 9113, section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a connection begins with.
pub(crate) enum Head {
    /// A request without a body, taken out of the buffer; or one whose body
    /// nobody will read, after which the connection ends.
    Request(Box<Request<()>>, Persistence),
    /// A request with a body that somebody may read, still in the buffer.
    Body,
    /// HTTP/2, still in the buffer.
    Http2,
}

/// What becomes of the connection after the answer (RFC 9112, section 9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Persistence {
    KeepAlive,
    Close,
}

impl Persistence {
    pub(crate) fn unless(self, is_over: bool) -> Self {
        if is_over { Self::Close } else { self }
    }
}

/// Why it is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadError {
    TooLarge,
    Invalid(&'static str),
}

/// Reads a head from the front of `buffer`; none while it is not complete. What
/// lies before `fresh` has been looked at before.
pub(crate) fn parse(
    buffer: &mut BytesMut,
    fresh: usize,
    is_first: bool,
) -> Result<Option<Head>, HeadError> {
    if is_first && !buffer.is_empty() {
        let length = buffer.len().min(HTTP2_PREFACE.len());
        if buffer[..length] == HTTP2_PREFACE[..length] {
            return Ok((length == HTTP2_PREFACE.len()).then_some(Head::Http2));
        }
    }
    // A head ends with a line: in between there is nothing to find out, and who
    // sends it byte by byte would have it read from the start each time.
    let is_worthwhile = fresh == 0 || buffer[fresh..].contains(&b'\n');
    if buffer.is_empty() || !is_worthwhile {
        return Ok(None);
    }
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut fields);
    let length = match parsed.parse(buffer) {
        Ok(httparse::Status::Complete(length)) if length > MAX_HEAD_BYTES => {
            return Err(HeadError::TooLarge);
        }
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooLarge),
        Err(_) => return Err(HeadError::Invalid("this is no HTTP request")),
    };
    let version = if parsed.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    let request = request(&parsed, version)?;
    let has_body = has_body(&request);
    // A body is no part of what these mean (RFC 9110, section 9.3).
    let is_bodiless = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if has_body && !is_bodiless {
        return Ok(Some(Head::Body));
    }
    let persistence = persistence(&request).unless(has_body);
    buffer.advance(length);
    Ok(Some(Head::Request(Box::new(request), persistence)))
}

fn request(parsed: &httparse::Request<'_, '_>, version: Version) -> Result<Request<()>, HeadError> {
    let mut request = Request::new(());
    *request.version_mut() = version;
    *request.method_mut() = Method::from_bytes(parsed.method.unwrap_or_default().as_bytes())
        .map_err(|_| HeadError::Invalid("the method is none"))?;
    *request.uri_mut() = Uri::try_from(parsed.path.unwrap_or_default())
        .map_err(|_| HeadError::Invalid("the request's target is no URI"))?;
    let fields = request.headers_mut();
    fields.reserve(parsed.headers.len());
    for field in parsed.headers.iter() {
        let invalid = HeadError::Invalid("a header field is none");
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| invalid)?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| invalid)?;
        fields.append(name, value);
    }
    // RFC 9112, section 3.2: two of them, and two servers on the way may each
    // believe another one.
    match fields.get_all(header::HOST).iter().count() {
        1 => {}
        0 if version == Version::HTTP_10 => {}
        _ => return Err(HeadError::Invalid("one Host header is needed")),
    }
    Ok(request)
}

/// RFC 9112, section 6.3. When in doubt, yes: hyper tells more.
fn has_body(request: &Request<()>) -> bool {
    let fields = request.headers();
    fields.contains_key(header::TRANSFER_ENCODING)
        || fields.get_all(header::CONTENT_LENGTH).iter().any(|length| length != "0")
}

fn persistence(request: &Request<()>) -> Persistence {
    let options = request.headers().get_all(header::CONNECTION).iter();
    let says_close = options
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|option| option.trim().eq_ignore_ascii_case("close"));
    if says_close || request.version() == Version::HTTP_10 {
        Persistence::Close
    } else {
        Persistence::KeepAlive
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse_all(bytes: &[u8]) -> Result<Option<Head>, HeadError> {
        parse(&mut BytesMut::from(bytes), 0, true)
    }

    fn request(text: &str) -> (Request<()>, Persistence) {
        match parse_all(text.as_bytes()) {
            Ok(Some(Head::Request(request, persistence))) => (*request, persistence),
            Ok(_) => panic!("no request: {text}"),
            Err(error) => panic!("{error:?}: {text}"),
        }
    }

    #[test]
    fn a_request_is_read_and_what_follows_it_is_left() {
        let text = b"GET /a?b=c HTTP/1.1\r\nHost: x\r\nAccept: a\r\naccept: b\r\n\r\nGET";
        let mut buffer = BytesMut::from(&text[..]);
        let Ok(Some(Head::Request(request, persistence))) = parse(&mut buffer, 0, true) else {
            panic!("no request");
        };
        assert_eq!((request.uri().path(), request.uri().query()), ("/a", Some("b=c")));
        assert_eq!(request.headers().get_all("accept").iter().count(), 2);
        assert_eq!(persistence, Persistence::KeepAlive);
        assert_eq!(&buffer[..], b"GET");
    }

    #[test]
    fn the_connection_goes_on_unless_somebody_says_otherwise() {
        let after = |text: &str| request(text).1;
        assert_eq!(after("GET / HTTP/1.1\r\nhost: x\r\n\r\n"), Persistence::KeepAlive);
        assert_eq!(
            after("GET / HTTP/1.1\r\nhost: x\r\nconnection: a, Close\r\n\r\n"),
            Persistence::Close
        );
        assert_eq!(after("GET / HTTP/1.0\r\n\r\n"), Persistence::Close);
    }

    #[test]
    fn what_has_a_body_is_left_for_hyper() {
        for field in ["content-length: 1", "content-length: +0", "transfer-encoding: chunked"] {
            let text = format!("POST / HTTP/1.1\r\nhost: x\r\n{field}\r\n\r\n");
            let mut buffer = BytesMut::from(text.as_bytes());
            assert!(matches!(parse(&mut buffer, 0, true), Ok(Some(Head::Body))), "{field}");
            assert_eq!(buffer.len(), text.len());
        }
        request("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n");
    }

    #[test]
    fn where_a_body_means_nothing_it_is_not_read_and_the_connection_ends() {
        for field in ["content-length: 5", "transfer-encoding: chunked"] {
            let text = format!("GET / HTTP/1.1\r\nhost: x\r\n{field}\r\n\r\n");
            assert_eq!(request(&text).1, Persistence::Close);
        }
    }

    #[test]
    fn what_is_no_request_is_told_so_as_soon_as_it_shows() {
        for (bytes, what) in [
            (&b"\x16\x03\x01\x02\x00"[..], "a TLS handshake"),
            (b"GET /\r\n", "HTTP/0.9"),
            (b"GET / HTTP/2.0\r\n", "a version"),
            (b"GET / HTTP/1.1\r\na b: c\r\n", "a field's name"),
            (b"GET / HTTP/1.1\r\n\r\n", "no host"),
            (b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", "two hosts"),
            (b"GET / HTTP/1.1\r\nhost: a\r\n x: folded\r\n\r\n", "a folded line"),
        ] {
            assert!(matches!(parse_all(bytes), Err(HeadError::Invalid(_))), "{what}");
        }
        let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(100));
        assert!(matches!(parse_all(many.as_bytes()), Err(HeadError::TooLarge)));
        let long = format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", "x".repeat(MAX_HEAD_BYTES));
        assert!(matches!(parse_all(long.as_bytes()), Err(HeadError::TooLarge)));
    }

    #[test]
    fn http_2_is_recognised_by_its_preface_and_only_at_the_start() {
        for length in 1..HTTP2_PREFACE.len() {
            assert!(matches!(parse_all(&HTTP2_PREFACE[..length]), Ok(None)), "{length}");
        }
        assert!(matches!(parse_all(HTTP2_PREFACE), Ok(Some(Head::Http2))));
        let later = parse(&mut BytesMut::from(HTTP2_PREFACE), 0, false);
        assert!(matches!(later, Err(HeadError::Invalid(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes: Vec<u8>, first: bool) {
            let _outcome = parse(&mut BytesMut::from(&bytes[..]), 0, first);
        }

        #[test]
        fn a_head_is_the_same_however_it_is_cut(cuts in proptest::collection::vec(0_usize..60, 0..8)) {
            let text = "GET /api?x=1 HTTP/1.1\r\nHost: x\r\nLast-Event-ID: abc\r\n\r\n";
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            cuts.push(text.len());
            let (mut buffer, mut fresh, mut found) = (BytesMut::new(), 0, None);
            let mut at = 0;
            for cut in cuts {
                buffer.extend_from_slice(&text.as_bytes()[at..cut]);
                at = cut;
                if found.is_none() {
                    found = parse(&mut buffer, fresh, true).unwrap();
                    fresh = buffer.len();
                }
            }
            let Some(Head::Request(request, _)) = found else { panic!("no request") };
            prop_assert_eq!(request.headers()["last-event-id"].as_bytes(), b"abc");
        }
    }
}
