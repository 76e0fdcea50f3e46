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
    /// A request, taken out of the buffer, and the length of the body behind it.
    Request(Box<Request<()>>, Persistence, BodyLength),
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

/// How long a request's body is (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyLength {
    Zero,
    Known(usize),
    /// It is in chunks, or means nothing to the request: it is not read, and the
    /// connection ends after the answer.
    Unread,
}

/// Why it is not a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HeadError {
    TooLarge,
    /// In words that its sender can act upon.
    Invalid(String),
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
    // A head ends with a line, so parsing is worthwhile only when a line has
    // ended: a client that sends byte by byte would otherwise have the whole
    // head parsed again for each byte.
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
        Err(error) => return Err(HeadError::Invalid(explain(error, buffer))),
    };
    let version = if parsed.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    let request = request(&parsed, version)?;
    let mut body = body_length(&request)?;
    // A body is no part of what these mean (RFC 9110, section 9.3).
    let is_bodiless = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if body != BodyLength::Zero && is_bodiless {
        body = BodyLength::Unread;
    }
    let persistence = persistence(&request).unless(body == BodyLength::Unread);
    buffer.advance(length);
    Ok(Some(Head::Request(Box::new(request), persistence, body)))
}

/// What is wrong with the bytes of a head, in words.
fn explain(error: httparse::Error, buffer: &[u8]) -> String {
    const TLS_HANDSHAKE: u8 = 0x16;
    if buffer.first() == Some(&TLS_HANDSHAKE) {
        return "these bytes are TLS, and this port speaks plain HTTP: use http://, or have the \
                operator set --tls-cert and --tls-key"
            .to_owned();
    }
    // The line that is wrong is the first that does not look like a header.
    let lines = buffer.split(|byte| *byte == b'\n').enumerate().skip(1);
    let mut lines = lines.take_while(|(_, line)| !line.is_empty() && *line != b"\r");
    let bad = lines.find(|(_, line)| {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        name.len() == line.len() || name.is_empty() || name.iter().any(|b| !is_token(*b))
    });
    match error {
        httparse::Error::HeaderName | httparse::Error::NewLine => match bad {
            Some((number, line)) if !line.contains(&b':') => format!(
                "line {} of the request has no colon; a header is a name, a colon and a value \
                 (RFC 9112, section 5)",
                number + 1
            ),
            Some((number, _)) => format!(
                "the header in line {} of the request has a name with a character that no name \
                 may have, such as a space before the colon (RFC 9112, section 5.1)",
                number + 1
            ),
            None => "a line of the request ends in a way that HTTP does not know (RFC 9112, \
                     section 2.2)"
                .to_owned(),
        },
        httparse::Error::HeaderValue => {
            "a header of the request has a value with a control character (RFC 9110, section 5.5)"
                .to_owned()
        }
        httparse::Error::Version => {
            "the request line names a version of HTTP that is neither 1.0 nor 1.1".to_owned()
        }
        _ => "these bytes are not an HTTP request, which begins with a line such as \
              GET /path HTTP/1.1 (RFC 9112, section 3)"
            .to_owned(),
    }
}

/// RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn request(parsed: &httparse::Request<'_, '_>, version: Version) -> Result<Request<()>, HeadError> {
    let mut request = Request::new(());
    *request.version_mut() = version;
    *request.method_mut() = Method::from_bytes(parsed.method.unwrap_or_default().as_bytes())
        .map_err(|_| invalid("the request's method is not a word such as GET"))?;
    *request.uri_mut() = Uri::try_from(parsed.path.unwrap_or_default()).map_err(|_| {
        invalid("the request's target is not a path such as /api/notifications/stream")
    })?;
    let fields = request.headers_mut();
    fields.reserve(parsed.headers.len());
    for field in parsed.headers.iter() {
        let wrong = |_| HeadError::Invalid(format!("the header {} is not valid", field.name));
        let name =
            HeaderName::from_bytes(field.name.as_bytes()).map_err(|e| wrong(e.to_string()))?;
        let value = HeaderValue::from_bytes(field.value).map_err(|e| wrong(e.to_string()))?;
        fields.append(name, value);
    }
    // RFC 9112, section 3.2: two of them, and two servers on the way may each
    // believe another one.
    match fields.get_all(header::HOST).iter().count() {
        1 => {}
        0 if version == Version::HTTP_10 => {}
        _ => {
            return Err(invalid(
                "the request needs exactly one Host header (RFC 9112, section 3.2)",
            ));
        }
    }
    Ok(request)
}

/// The page that bytes come from which are no request, if they say so.
pub(crate) fn origin(bytes: &[u8]) -> Option<HeaderValue> {
    let fields = bytes.split(|&byte| byte == b'\n').skip(1).map(<[u8]>::trim_ascii);
    let field = fields
        .take_while(|field| !field.is_empty())
        .find(|field| field.get(..7).is_some_and(|name| name.eq_ignore_ascii_case(b"origin:")))?;
    HeaderValue::from_bytes(field.get(7..)?.trim_ascii()).ok()
}

fn invalid(reason: &str) -> HeadError {
    HeadError::Invalid(reason.to_owned())
}

/// RFC 9112, section 6.3. Where two servers on the way could believe in two
/// lengths, the next request could be smuggled past one of them: refused.
fn body_length(request: &Request<()>) -> Result<BodyLength, HeadError> {
    let fields = request.headers();
    let mut length = None;
    for value in fields.get_all(header::CONTENT_LENGTH) {
        // A list of one number several times is allowed (RFC 9110, section 8.6).
        for number in value.as_bytes().split(|byte| *byte == b',') {
            let number = content_length(number.trim_ascii()).ok_or_else(|| {
                invalid("Content-Length is not a number of bytes (RFC 9112, section 6.3)")
            })?;
            if length.is_some_and(|other| other != number) {
                return Err(invalid(
                    "the request has two Content-Lengths that differ (RFC 9112, section 6.3)",
                ));
            }
            length = Some(number);
        }
    }
    let mut codings = fields.get_all(header::TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next_back() else {
        return Ok(length.filter(|length| *length > 0).map_or(BodyLength::Zero, BodyLength::Known));
    };
    if length.is_some() {
        return Err(invalid(
            "the request has a Content-Length and a Transfer-Encoding; only one of them may be \
             there (RFC 9112, section 6.1)",
        ));
    }
    let last = coding.as_bytes().rsplit(|byte| *byte == b',').next().unwrap_or_default();
    let is_chunked = last.trim_ascii().eq_ignore_ascii_case(b"chunked");
    if request.version() == Version::HTTP_10 || !is_chunked {
        return Err(invalid(
            "the request's Transfer-Encoding does not end with chunked, or the request is \
             HTTP/1.0, which has none (RFC 9112, section 6.3)",
        ));
    }
    Ok(BodyLength::Unread)
}

/// Digits and nothing else: `+5` and `0x5` are a number for some servers only.
fn content_length(text: &[u8]) -> Option<usize> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| is_number)?.parse().ok()
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
            Ok(Some(Head::Request(request, persistence, _))) => (*request, persistence),
            Ok(_) => panic!("not a request: {text}"),
            Err(error) => panic!("{error:?}: {text}"),
        }
    }

    #[test]
    fn the_page_is_found_in_bytes_that_are_no_request() {
        for (bytes, page) in [
            ("GET / HTTP/1.1\r\nhost: a\r\nORIGIN:  https://a \r\nbroken\r\n", Some("https://a")),
            ("GET / HTTP/1.1\r\nx-origin: a\r\norigins: b\r\n\r\norigin: c\r\n", None),
            ("origin: a\r\n", None),
            ("", None),
        ] {
            let found = origin(bytes.as_bytes());
            assert_eq!(found.as_ref().and_then(|page| page.to_str().ok()), page, "{bytes}");
        }
    }

    #[test]
    fn a_request_is_read_and_what_follows_it_is_left() {
        let text = b"GET /a?b=c HTTP/1.1\r\nHost: x\r\nAccept: a\r\naccept: b\r\n\r\nGET";
        let mut buffer = BytesMut::from(&text[..]);
        let Ok(Some(Head::Request(request, persistence, body))) = parse(&mut buffer, 0, true)
        else {
            panic!("not a request");
        };
        assert_eq!(body, BodyLength::Zero);
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

    fn body(method: &str, fields: &str) -> Result<BodyLength, HeadError> {
        let text = format!("{method} / HTTP/1.1\r\nhost: x\r\n{fields}\r\n\r\n");
        match parse_all(text.as_bytes())? {
            Some(Head::Request(_, _, body)) => Ok(body),
            _ => panic!("not a request: {text}"),
        }
    }

    #[test]
    fn a_body_has_one_length_or_the_request_is_refused() {
        for (fields, length) in [
            ("content-length: 0", BodyLength::Zero),
            ("content-length: 12", BodyLength::Known(12)),
            ("content-length: 12, 12", BodyLength::Known(12)),
            ("content-length: 12\r\ncontent-length: 12", BodyLength::Known(12)),
            ("transfer-encoding: chunked", BodyLength::Unread),
            ("transfer-encoding: gzip, Chunked", BodyLength::Unread),
        ] {
            assert_eq!(body("POST", fields), Ok(length), "{fields}");
            let on_get = if length == BodyLength::Zero { length } else { BodyLength::Unread };
            assert_eq!(body("GET", fields), Ok(on_get), "{fields}");
        }
        for fields in [
            "content-length: abc",
            "content-length:",
            "content-length: -1",
            "content-length: +0",
            "content-length: 0x5",
            "content-length: 5 5",
            "content-length: 5,",
            "content-length: 5, 6",
            "content-length: 5\r\ncontent-length: 6",
            "content-length: 0\r\ncontent-length: 6",
            "content-length: 99999999999999999999999",
            "content-length: 5\r\ntransfer-encoding: chunked",
            "content-length: 0\r\ntransfer-encoding: chunked",
            "transfer-encoding: gzip",
            "transfer-encoding: chunked, gzip",
            "transfer-encoding: chunked\r\ntransfer-encoding: identity",
        ] {
            for method in ["GET", "POST", "HEAD", "OPTIONS"] {
                let outcome = body(method, fields);
                assert!(matches!(outcome, Err(HeadError::Invalid(_))), "{method} {fields}");
            }
        }
        let old = b"GET / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n";
        assert!(matches!(parse_all(old), Err(HeadError::Invalid(_))));
    }

    #[test]
    fn where_a_body_means_nothing_it_is_not_read_and_the_connection_ends() {
        for field in ["content-length: 5", "transfer-encoding: chunked"] {
            let text = format!("GET / HTTP/1.1\r\nhost: x\r\n{field}\r\n\r\n");
            assert_eq!(request(&text).1, Persistence::Close);
        }
    }

    #[test]
    fn bytes_that_are_not_a_request_are_told_why_as_soon_as_it_shows() {
        for (bytes, what) in [
            (&b"\x16\x03\x01\x02\x00"[..], "TLS"),
            (b"GET /\r\n", "GET /path HTTP/1.1"),
            (b"GET / HTTP/2.0\r\n", "neither 1.0 nor 1.1"),
            (b"GET / HTTP/1.1\r\na b: c\r\n", "line 2"),
            (
                b"GET / HTTP/1.1\r\nhost: x\r\na: b\r\nnothing\r\n",
                "line 4 of the request has no colon",
            ),
            (b"GET / HTTP/1.1\r\nhost : x\r\n", "a space before the colon"),
            (b"GET / HTTP/1.1\r\nhost: \x01\r\n", "control character"),
            (b"GET / HTTP/1.1\r\n\r\n", "one Host header"),
            (b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", "one Host header"),
            (b"GET / HTTP/1.1\r\nhost: a\r\n x: folded\r\n\r\n", "line 3"),
        ] {
            let outcome = parse_all(bytes);
            let Err(HeadError::Invalid(reason)) = outcome else { panic!("{what}") };
            assert!(reason.contains(what), "{what}: {reason}");
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
            let Some(Head::Request(request, ..)) = found else { panic!("not a request") };
            prop_assert_eq!(request.headers()["last-event-id"].as_bytes(), b"abc");
        }
    }
}
