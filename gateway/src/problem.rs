//! Errors as `application/problem+json` (RFC 9457).

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde::Serialize;

/// The media type of all of them (RFC 9457, section 3).
pub const CONTENT_TYPE: &str = "application/problem+json";

/// What kind of error it is: its page in `docs/problems.md`, status and title.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each has a section in docs/problems.md")]
pub enum Kind {
    BadRequest,
    BadQuery,
    TwoTokens,
    TokenMissing,
    TokenInvalid,
    ForeignOrigin,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    HeadTooLarge,
    RateLimited,
    TooManyStreams,
    Full,
    Starting,
    NoKeys,
    Stopping,
    Other,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::BadRequest,
        Self::BadQuery,
        Self::TwoTokens,
        Self::TokenMissing,
        Self::TokenInvalid,
        Self::ForeignOrigin,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::HeadTooLarge,
        Self::RateLimited,
        Self::TooManyStreams,
        Self::Full,
        Self::Starting,
        Self::NoKeys,
        Self::Stopping,
        Self::Other,
    ];

    /// The page of each kind of error. `concat!` needs literals, and so has the
    /// macro; the repository is the one that Cargo.toml names.
    fn parts(self) -> (&'static str, StatusCode, &'static str) {
        macro_rules! page {
            ($code:literal) => {
                concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/problems.md#", $code)
            };
        }
        use StatusCode as S;
        match self {
            Self::BadRequest => {
                (page!("bad-request"), S::BAD_REQUEST, "The request is not valid HTTP")
            }
            Self::BadQuery => (page!("bad-query"), S::BAD_REQUEST, "The query cannot be decoded"),
            Self::TwoTokens => {
                (page!("two-tokens"), S::BAD_REQUEST, "The request has two different tokens")
            }
            Self::TokenMissing => {
                (page!("token-missing"), S::UNAUTHORIZED, "The request has no token")
            }
            Self::TokenInvalid => {
                (page!("token-invalid"), S::UNAUTHORIZED, "The token is not valid")
            }
            Self::ForeignOrigin => (
                page!("foreign-origin"),
                S::FORBIDDEN,
                "The cookie came from a page of another origin",
            ),
            Self::NotFound => (page!("not-found"), S::NOT_FOUND, "Nothing is at this path"),
            Self::MethodNotAllowed => (
                page!("method-not-allowed"),
                S::METHOD_NOT_ALLOWED,
                "The path does not answer this method",
            ),
            Self::RequestTimeout => {
                (page!("request-timeout"), S::REQUEST_TIMEOUT, "The request came too slowly")
            }
            Self::HeadTooLarge => (
                page!("head-too-large"),
                S::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "The request's head is too large",
            ),
            Self::RateLimited => {
                (page!("rate-limited"), S::TOO_MANY_REQUESTS, "Too many connection attempts")
            }
            Self::TooManyStreams => {
                (page!("too-many-streams"), S::TOO_MANY_REQUESTS, "The user has too many streams")
            }
            Self::Full => (page!("full"), S::SERVICE_UNAVAILABLE, "The gateway is full"),
            Self::Starting => {
                (page!("starting"), S::SERVICE_UNAVAILABLE, "The gateway is starting")
            }
            Self::NoKeys => {
                (page!("no-keys"), S::SERVICE_UNAVAILABLE, "The gateway has no keys yet")
            }
            Self::Stopping => {
                (page!("stopping"), S::SERVICE_UNAVAILABLE, "The gateway is stopping")
            }
            Self::Other => (page!("other"), S::INTERNAL_SERVER_ERROR, "The request failed"),
        }
    }

    /// The URL of its page.
    pub fn page(self) -> &'static str {
        self.parts().0
    }

    fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::BAD_REQUEST => Self::BadRequest,
            StatusCode::REQUEST_TIMEOUT => Self::RequestTimeout,
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Self::HeadTooLarge,
            _ => Self::Other,
        }
    }
}

/// An answer that is an error. Its `detail` is for the developer at the other
/// end; it holds nothing of a token.
#[derive(Clone, Debug)]
pub struct Problem {
    kind: Kind,
    status: StatusCode,
    detail: String,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem of this kind.
    pub fn of(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, status: kind.parts().1, detail: detail.into(), header: None }
    }

    /// For a request that could not be read at all.
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, ..Self::of(Kind::of_status(status), detail) }
    }

    /// RFC 6750, section 3: a request without a token is told the scheme, one
    /// with a bad token why it is bad.
    pub(crate) fn unauthorized(reason: Option<String>) -> Self {
        let Some(reason) = reason else {
            let detail = "send a token: Authorization: Bearer TOKEN, the query parameter \
                          access_token or the cookie of --jwt-cookie, where they are switched on";
            let challenge = HeaderValue::from_static("Bearer realm=\"notifications\"");
            return Self::of(Kind::TokenMissing, detail).with(header::WWW_AUTHENTICATE, challenge);
        };
        // RFC 6750, section 3, says what may be in it. Names of claims come
        // from the settings and may hold anything.
        let is_plain = |c: char| (' '..='~').contains(&c) && c != '"' && c != '\\';
        let description: String =
            reason.chars().map(|c| if is_plain(c) { c } else { '?' }).collect();
        let challenge = format!(
            "Bearer realm=\"notifications\", error=\"invalid_token\", \
             error_description=\"{description}\""
        );
        let challenge =
            HeaderValue::from_str(&challenge).unwrap_or(HeaderValue::from_static("Bearer"));
        Self::of(Kind::TokenInvalid, reason).with(header::WWW_AUTHENTICATE, challenge)
    }

    pub(crate) fn not_found() -> Self {
        Self::of(
            Kind::NotFound,
            "check the path; the public port has the stream at /api/notifications/stream, and \
             nothing else",
        )
    }

    pub(crate) fn method_not_allowed(allow: &'static str) -> Self {
        Self::of(Kind::MethodNotAllowed, format!("this path answers {allow}"))
            .with(header::ALLOW, HeaderValue::from_static(allow))
    }

    /// For a client that may come again: after `retry`, in whole seconds, and up
    /// to four more. One number for all would bring them back in one instant.
    pub(crate) fn later(kind: Kind, detail: &str, retry: Duration) -> Self {
        const SPREAD_SECONDS: u64 = 4;
        let seconds = retry.as_secs().max(1) + fastrand::u64(0..=SPREAD_SECONDS);
        Self::of(kind, detail).with(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some((name, value));
        self
    }

    /// The response, its body made by `body`.
    pub fn into_response<B>(self, body: impl FnOnce(Bytes) -> B) -> Response<B> {
        #[derive(Serialize)]
        struct Document<'a> {
            r#type: &'static str,
            title: &'a str,
            status: u16,
            detail: &'a str,
        }
        let (r#type, _, title) = self.kind.parts();
        let document =
            Document { r#type, title, status: self.status.as_u16(), detail: &self.detail };
        // Strings and a number: there is nothing to fail on.
        let bytes = serde_json::to_vec(&document).unwrap_or_default();
        let mut response = Response::new(body(bytes.into()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        // A cache between here and the browser must not keep an outage alive.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.extend(self.header);
        response
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_kind_of_problem_has_a_section_in_the_docs_and_no_section_is_left_over() {
        let docs = include_str!("../../docs/problems.md");
        let sections: HashSet<&str> =
            docs.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        let codes: HashSet<&str> =
            Kind::ALL.iter().map(|kind| kind.page().split_once('#').unwrap().1).collect();
        assert_eq!(codes.len(), Kind::ALL.len());
        assert_eq!(sections, codes);
    }

    #[test]
    fn the_time_to_come_back_is_not_the_same_for_all() {
        let retry = Duration::from_millis(1500);
        let seconds = (0..200).map(|_| {
            let response = Problem::later(Kind::Full, "", retry).into_response(|body| body);
            response.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap()
        });
        let seconds: HashSet<u64> = seconds.collect();
        assert!(seconds.len() > 2 && seconds.iter().all(|s| (1..=5).contains(s)), "{seconds:?}");
    }

    #[test]
    fn a_claims_name_cannot_break_out_of_the_challenge() {
        let problem = Problem::unauthorized(Some("a\"b\\c\nd\u{e4}".into()));
        let response = problem.into_response(|body| body);
        let challenge = response.headers()["www-authenticate"].to_str().unwrap();
        assert!(challenge.ends_with("error_description=\"a?b?c?d?\""), "{challenge}");
    }
}
