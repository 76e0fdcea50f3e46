//! Which pages of other origins may read the answers.
//!
//! <https://fetch.spec.whatwg.org/#http-cors-protocol>

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS,
        ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS,
        ACCESS_CONTROL_MAX_AGE, ORIGIN, VARY,
    },
};

/// What a fetch-based client of the stream sends beyond what needs no asking.
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
            answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, ALLOW_HEADERS);
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
