//! Errors as `application/problem+json` (RFC 9457).

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde::Serialize;

/// An answer that is an error. Its `detail` is for the developer at the other
/// end; it holds nothing of a token.
#[derive(Clone, Debug)]
pub struct Problem {
    status: StatusCode,
    detail: String,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), header: None }
    }

    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// RFC 6750, section 3: a request without a token is told the scheme, one
    /// with a bad token why it is bad.
    pub(crate) fn unauthorized(reason: Option<String>) -> Self {
        let challenge = match &reason {
            None => "Bearer realm=\"notifications\"".to_owned(),
            Some(reason) => format!(
                "Bearer realm=\"notifications\", error=\"invalid_token\", \
                 error_description=\"{reason}\""
            ),
        };
        let detail = reason.unwrap_or_else(|| "a token is needed".to_owned());
        // The reasons are texts of ours, all printable ASCII.
        let challenge =
            HeaderValue::from_str(&challenge).unwrap_or(HeaderValue::from_static("Bearer"));
        Self::new(StatusCode::UNAUTHORIZED, detail).with(header::WWW_AUTHENTICATE, challenge)
    }

    pub(crate) fn forbidden(detail: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "there is nothing at this path")
    }

    pub(crate) fn method_not_allowed(allow: &'static str) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, format!("this path answers {allow}"))
            .with(header::ALLOW, HeaderValue::from_static(allow))
    }

    /// `retry` is rounded up to the whole seconds that the header knows.
    pub(crate) fn unavailable(detail: &str, retry: Duration) -> Self {
        let seconds = retry.as_secs() + u64::from(retry.subsec_nanos() > 0);
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
            .with(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// As [`Problem::unavailable`], for who asks too much.
    pub(crate) fn too_many(detail: &str, retry: Duration) -> Self {
        Self { status: StatusCode::TOO_MANY_REQUESTS, ..Self::unavailable(detail, retry) }
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
        let document = Document {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
        };
        // Strings and a number: there is nothing to fail on.
        let bytes = serde_json::to_vec(&document).unwrap_or_default();
        let mut response = Response::new(body(bytes.into()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        // A cache between here and the browser must not keep an outage alive.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.extend(self.header);
        response
    }
}
