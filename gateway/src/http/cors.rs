//! Which pages of other origins may read the answers.
//!
//! <https://fetch.spec.whatwg.org/#http-cors-protocol>

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS,
        ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS,
        ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ORIGIN, VARY,
    },
};

/// What a fetch-based client of the stream sends beyond what needs no asking; for
/// a preflight that asks for nothing. What it asks for is allowed: the page may
/// read the stream, and tracers add headers of their own (`traceparent`).
const ALLOW_HEADERS: HeaderValue =
    HeaderValue::from_static("authorization, last-event-id, cache-control");
/// What it needs to read to wait as long as it is told.
const EXPOSE_HEADERS: HeaderValue = HeaderValue::from_static("retry-after, www-authenticate");
/// Browsers ask again after this many seconds; two hours is the most that
/// Chromium grants.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

/// The origins that are allowed, exactly as browsers write them.
pub(super) struct Cors {
    origins: Vec<HeaderValue>,
}

impl Cors {
    pub(super) fn new(origins: Vec<HeaderValue>) -> Self {
        Self { origins }
    }

    /// Whether the request comes from a page of an allowed origin.
    pub(super) fn allows(&self, request: &HeaderMap) -> bool {
        self.allowed(request).is_some()
    }

    /// The headers of every answer, errors included: without them a page cannot
    /// even read that it was refused.
    pub(super) fn stamp(&self, request: &HeaderMap, answer: &mut HeaderMap, is_preflight: bool) {
        if self.origins.is_empty() {
            return;
        }
        // Caches must not give one origin's answer to another.
        answer.append(VARY, HeaderValue::from_name(HeaderName::from_static("origin")));
        let Some(origin) = self.allowed(request) else { return };
        // The exact origin, never `*`: with `*` no cookie would be sent.
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        if is_preflight {
            answer.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET"));
            let asked = request.get(ACCESS_CONTROL_REQUEST_HEADERS).filter(|asked| is_list(asked));
            answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.cloned().unwrap_or(ALLOW_HEADERS));
            answer.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        } else {
            answer.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSE_HEADERS);
        }
    }

    fn allowed(&self, request: &HeaderMap) -> Option<&HeaderValue> {
        let origin = request.get(ORIGIN)?;
        self.origins.iter().find(|allowed| *allowed == origin)
    }
}

/// Whether it is a list of header names, of a length that a browser sends.
fn is_list(asked: &HeaderValue) -> bool {
    const MAX_BYTES: usize = 1024;
    let is_name = |name: &str| HeaderName::from_bytes(name.trim().as_bytes()).is_ok();
    asked.len() <= MAX_BYTES && asked.to_str().is_ok_and(|list| list.split(',').all(is_name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_header_that_is_asked_for_is_allowed_and_nothing_else_is_sent_back() {
        let cors = Cors::new(vec![HeaderValue::from_static("https://app.example")]);
        let long = "x,".repeat(600) + "x";
        for (asked, allowed) in [
            ("authorization,traceparent", "authorization,traceparent"),
            ("Baggage, Sentry-Trace", "Baggage, Sentry-Trace"),
            ("a;b", ""),
            ("", ""),
            ("a,,b", ""),
            (long.as_str(), ""),
        ] {
            let mut request = HeaderMap::new();
            request.insert(ORIGIN, HeaderValue::from_static("https://app.example"));
            request.insert(ACCESS_CONTROL_REQUEST_HEADERS, asked.parse().unwrap());
            let mut answer = HeaderMap::new();
            cors.stamp(&request, &mut answer, true);
            let allowed = if allowed.is_empty() { ALLOW_HEADERS } else { allowed.parse().unwrap() };
            assert_eq!(answer[ACCESS_CONTROL_ALLOW_HEADERS], allowed, "{asked}");
        }
    }
}
