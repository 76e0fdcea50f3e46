//! The public port: one path, who may have it, and every answer but 200.

pub(crate) mod address;
mod admin;
mod admission;
mod cors;
pub(crate) mod credentials;
mod decide;
pub(crate) mod query;

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use ipnet::IpNet;
use tokio::time::{Instant, timeout};
use tracing::{Instrument as _, Span, field::Empty};

pub use admin::Admin;

use crate::{
    auth::{Identity, TokenError, Verifier},
    config::Config,
    cursor::Cursor,
    health::Health,
    horizon::Resync,
    hub::Hub,
    looks::Freshness,
    metrics::Metrics,
    outcome::Refusal,
    problem::Problem,
    revocation::Revocations,
    server::{Answer, Malformed, Peer, ServerRequest},
    sse,
    stream::{EventStream, StreamContext},
    telemetry::{SPANS, continue_trace},
};
use address::{client_address, own_host};
use admission::Admission;
use cors::Cors;
use credentials::{CredentialError, CredentialSources, Credentials, is_same_origin};
use decide::{Decision, Denial, Facts, decide, refusal_problem};
use query::Query;

/// The path of the stream.
pub const STREAM_PATH: &str = "/api/notifications/stream";

/// What a client of EventSource sends back after a cut.
const LAST_EVENT_ID: &str = "last-event-id";

/// Answers the requests of the public port.
#[derive(Clone)]
pub struct Routes(Arc<Inner>);

struct Inner {
    enabled: bool,
    no_transform: bool,
    cors: Cors,
    admission: Admission,
    trusted_proxies: Vec<IpNet>,
    credentials: CredentialSources,
    verifier: Arc<Verifier>,
    revocations: Arc<Revocations>,
    freshness: Freshness,
    hub: Arc<Hub>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    streams: Arc<StreamContext>,
    next_stream_id: AtomicU64,
}

impl Routes {
    /// The routes of a gateway with these settings and parts.
    #[allow(clippy::too_many_arguments, reason = "each part of a gateway once, at one place")]
    pub fn new(
        config: &Config,
        verifier: Arc<Verifier>,
        revocations: Arc<Revocations>,
        freshness: Freshness,
        hub: Arc<Hub>,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
        streams: Arc<StreamContext>,
    ) -> Self {
        Self(Arc::new(Inner {
            enabled: config.enabled,
            no_transform: config.no_transform,
            cors: Cors::new(config.cors_origins.clone()),
            admission: Admission::new(config.connect_rate, config.user_connect_rate),
            trusted_proxies: config.trusted_proxies.clone(),
            credentials: CredentialSources {
                cookie: config.auth.cookie.clone(),
                query: config.auth.query_token,
            },
            verifier,
            revocations,
            freshness,
            hub,
            health,
            metrics,
            streams,
            next_stream_id: AtomicU64::new(1),
        }))
    }

    /// The answer to a request. Nothing of its body is read.
    pub async fn answer(&self, request: &Request<()>) -> Response<ResponseBody> {
        let mut response = self
            .0
            .answer(request)
            .await
            .unwrap_or_else(|problem| problem.into_response(ResponseBody::full));
        let is_preflight = *request.method() == Method::OPTIONS;
        self.0.cors.stamp(request.headers(), response.headers_mut(), is_preflight);
        response
    }
}

impl hyper::service::Service<ServerRequest> for Routes {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn call(&self, request: ServerRequest) -> Self::Future {
        let (routes, request) = (self.clone(), request.map(|_body| ()));
        let span = span_of(&request);
        let answering = async move {
            let answer = routes.answer(&request).await;
            Span::current().record("http.response.status_code", answer.status().as_u16());
            Ok(answer)
        };
        if span.is_disabled() {
            return Box::pin(answering);
        }
        Box::pin(answering.instrument(span))
    }
}

impl Inner {
    async fn answer(&self, request: &Request<()>) -> Result<Response<ResponseBody>, Problem> {
        if let Some(Malformed(problem)) = request.extensions().get() {
            return Err(problem.clone());
        }
        if request.uri().path() != STREAM_PATH {
            return Err(Problem::not_found());
        }
        match *request.method() {
            Method::GET => {}
            Method::OPTIONS => return Ok(options()),
            _ => return Err(Problem::method_not_allowed(ALLOW)),
        }
        let parsed = Query::parse(request.uri().query());
        let is_query_valid = parsed.is_ok();
        let query = parsed.unwrap_or_default();
        let (token, is_flooded) = if self.enabled {
            // Counted whatever the token is, and told only to a good one.
            let is_flooded = self.is_address_flooded(request);
            (self.authenticate(request, &query).await, is_flooded)
        } else {
            (Err(Denial::Credentials(CredentialError::Missing)), false)
        };
        if token.is_ok() && !self.health.has_been_ready() {
            // A gateway that has just been started is ready within milliseconds; after a restart
            // its first clients would be sent away for a second.
            let _late = timeout(STARTING_PATIENCE, self.health.ready()).await;
        }
        let has_been_ready = self.health.has_been_ready();
        let is_flooded =
            is_flooded || token.as_ref().is_ok_and(|found| self.is_user_flooded(found));
        // A source has no streams, and looks at nothing for them.
        if token.is_ok() && has_been_ready && self.hub.limits().streams > 0 {
            // While nobody is connected nothing is read: now it is.
            self.freshness.ensure(is_flooded).await;
        }
        let token = token.map(|identities| self.not_revoked(identities));
        let decision = decide(Facts {
            is_enabled: self.enabled,
            is_query_valid,
            revoked: token.as_ref().ok().and_then(|identity| self.revoked(identity)),
            is_flooded,
            has_been_ready,
            token: token.as_ref().map(|_| ()).map_err(Clone::clone),
        });
        match (decision, token) {
            (Decision::Open, Ok(identity)) => self.open(request, &query, &identity),
            (Decision::Refuse(refusal), _) => self.refuse(request, refusal),
            (Decision::Deny(denial), _) | (Decision::Open, Err(denial)) => Err(self.deny(denial)),
            (Decision::Off, _) => {
                self.metrics.refused().disabled.increment(1);
                Ok(empty(StatusCode::NO_CONTENT))
            }
        }
    }

    fn open(
        &self,
        request: &Request<()>,
        query: &Query<'_>,
        identity: &Identity,
    ) -> Result<Response<ResponseBody>, Problem> {
        let subscription = match self.hub.subscribe(identity.user.clone(), identity.issued_at) {
            Ok(subscription) => subscription,
            Err(refusal) => return self.refuse(request, refusal),
        };
        // Once more: a revocation that comes from here on finds the stream in
        // the hub.
        if let Some(error) = self.revoked(identity) {
            return Err(self.deny(Denial::Token(error)));
        }
        let resumed = last_event_id(request.headers(), query);
        if resumed.is_some() {
            self.metrics.reconnected(self.streams.ends.last(&identity.user));
        }
        let resumed = resumed.map(|cursor| Cursor::parse(cursor).map_err(|_| Resync::Malformed));
        let peer = request.extensions().get::<Peer>();
        let id = self.next_stream_id.fetch_add(1, Ordering::Relaxed);
        let span = Span::current();
        if !span.is_disabled() {
            span.record("user.id", identity.user.to_string());
            span.record("stream.id", id);
        }
        let stream = EventStream::open(
            Arc::clone(&self.streams),
            subscription,
            identity,
            resumed,
            peer.map(|peer| peer.stalled.clone()).unwrap_or_default(),
            id,
        );
        Ok(self.event_stream(ResponseBody::Stream(Box::new(stream))))
    }

    /// Counts an attempt of the request's address.
    fn is_address_flooded(&self, request: &Request<()>) -> bool {
        let Some(peer) = request.extensions().get::<Peer>() else { return false };
        let address = client_address(peer.address, request.headers(), &self.trusted_proxies);
        address.is_some_and(|address| self.admission.is_flooded_by(address))
    }

    /// Counts an attempt of the user.
    fn is_user_flooded(&self, (identity, _): &Found) -> bool {
        self.admission.is_flooded_for(&identity.user)
    }

    /// The first that has not been revoked, else the first.
    fn not_revoked(&self, (first, others): Found) -> Identity {
        if self.revoked(&first).is_none() {
            return first;
        }
        others.into_iter().find(|other| self.revoked(other).is_none()).unwrap_or(first)
    }

    fn revoked(&self, identity: &Identity) -> Option<TokenError> {
        self.revocations.admit(identity).err()
    }

    async fn authenticate(
        &self,
        request: &Request<()>,
        query: &Query<'_>,
    ) -> Result<Found, Denial> {
        let headers = request.headers();
        let peer = request.extensions().get::<Peer>().map(|peer| peer.address);
        let host = own_host(peer, request, &self.trusted_proxies);
        let is_own_page = is_same_origin(headers, host) || self.cors.allows(headers);
        let credentials = self.credentials.find(headers, query, is_own_page);
        match credentials.map_err(Denial::Credentials)? {
            Credentials::Explicit(token) => {
                let identity = self.verifier.verify(token).await.map_err(Denial::Token)?;
                Ok((identity, Vec::new()))
            }
            // Browsers send all cookies of a name, for example after the
            // application has changed the path or the domain of its own.
            Credentials::Cookies(tokens) => {
                let (mut good, mut first_error) = (Vec::new(), None);
                for token in tokens {
                    match self.verifier.verify(&token).await {
                        Ok(identity) => good.push(identity),
                        Err(error) => first_error = first_error.or(Some(error)),
                    }
                }
                let mut good = good.into_iter();
                let missing = Denial::Credentials(CredentialError::Missing);
                let first = good.next();
                let first = first.ok_or_else(|| first_error.map_or(missing, Denial::Token))?;
                Ok((first, good.collect()))
            }
        }
    }

    fn deny(&self, denial: Denial) -> Problem {
        let refused = self.metrics.refused();
        match &denial {
            Denial::Token(_) | Denial::Credentials(CredentialError::Missing) => {
                refused.unauthorized.increment(1);
            }
            Denial::Credentials(CredentialError::ForeignOrigin) => refused.forbidden.increment(1),
            Denial::Credentials(CredentialError::Contradiction) | Denial::Query => {
                refused.bad_request.increment(1);
            }
        }
        denial.problem()
    }

    /// For a browser's `EventSource` every status but 200 is the end for good:
    /// one that asks for an event stream by name is let in, told why it cannot
    /// stay and when to come back.
    fn refuse(
        &self,
        request: &Request<()>,
        refusal: Refusal,
    ) -> Result<Response<ResponseBody>, Problem> {
        self.metrics.refused().soft(refusal);
        let retry = self.streams.retry();
        if !asks_for_event_stream(request.headers()) {
            return Err(refusal_problem(refusal, retry));
        }
        let mut body = Vec::new();
        sse::closing(&mut body, None, refusal.reason(), retry);
        Ok(self.event_stream(ResponseBody::full(body)))
    }

    fn event_stream(&self, body: ResponseBody) -> Response<ResponseBody> {
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        let cache = if self.no_transform { "no-cache, no-transform" } else { "no-cache" };
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
        // nginx would hold events back until its buffer is full.
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        response
    }
}

/// The answer's body: a stream, or a few bytes.
pub enum ResponseBody {
    /// Bytes known beforehand.
    Full(Full<Bytes>),
    /// An open stream.
    Stream(Box<EventStream>),
}

impl ResponseBody {
    /// A body of these bytes.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self::Full(Full::new(bytes.into()))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Full(body) => Pin::new(body).poll_frame(cx),
            Self::Stream(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(body) => body.is_end_stream(),
            Self::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(body) => body.size_hint(),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

impl Answer for ResponseBody {
    fn poll_fill(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<bool> {
        match self {
            Self::Full(body) => body.poll_fill(cx, out),
            Self::Stream(body) => body.poll_events(cx, out),
        }
    }

    fn due(&self) -> Option<Instant> {
        match self {
            Self::Full(_) => None,
            Self::Stream(body) => body.due(),
        }
    }

    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Full(_) => Poll::Pending,
            Self::Stream(body) => body.poll_over(cx),
        }
    }
}

/// The span of a connect: from the request to the head of its answer, under the names of
/// OpenTelemetry's conventions for HTTP servers. Its query is not told, which may hold a token.
fn span_of(request: &Request<()>) -> Span {
    let span = tracing::trace_span!(
        target: SPANS,
        "connect",
        otel.name = %format_args!("{} {STREAM_PATH}", request.method()),
        otel.kind = "server",
        http.request.method = %request.method(),
        url.path = request.uri().path(),
        http.response.status_code = Empty,
        user.id = Empty,
        stream.id = Empty,
    );
    if !span.is_disabled() {
        continue_trace(&span, request.headers());
    }
    span
}

/// Whose token it is: the first that verifies, and what other cookies say.
type Found = (Identity, Vec<Identity>);

const ALLOW: &str = "GET, OPTIONS";

/// How long a request waits for a gateway that has not reached its database yet.
const STARTING_PATIENCE: Duration = Duration::from_secs(1);

fn options() -> Response<ResponseBody> {
    let mut response = empty(StatusCode::NO_CONTENT);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(ALLOW));
    response
}

fn empty(status: StatusCode) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::full(Bytes::new()));
    *response.status_mut() = status;
    response
}

fn asks_for_event_stream(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|range| {
            let media_type = range.split(';').next().unwrap_or_default().trim();
            media_type.eq_ignore_ascii_case("text/event-stream")
        })
}

/// Where the client wants to go on: the header, which browsers send by
/// themselves, else the query, by our name or by the one of a common polyfill. Of
/// several the last counts, and an empty one like none at all.
fn last_event_id<'a>(headers: &'a HeaderMap, query: &'a Query<'_>) -> Option<&'a [u8]> {
    let given = |id: &&[u8]| !id.is_empty();
    let last = |name| query.all(name).map(str::as_bytes).filter(given).last();
    let sent = headers.get_all(LAST_EVENT_ID).iter().map(HeaderValue::as_bytes);
    sent.rev().find(given).or_else(|| last("last_event_id")).or_else(|| last("lastEventId"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_wins_and_of_several_the_last_that_is_not_empty() {
        for (headers, query, id) in [
            (&[][..], "", None),
            (&["a", "b"], "last_event_id=c", Some("b")),
            (&["a", ""], "last_event_id=c", Some("a")),
            (&[""], "last_event_id=c&last_event_id=d", Some("d")),
            (&[], "last_event_id=&lastEventId=e", Some("e")),
            (&[], "lastEventId=e&last_event_id=c", Some("c")),
            (&[""], "lastEventId=", None),
        ] {
            let mut map = HeaderMap::new();
            for value in headers {
                map.append(LAST_EVENT_ID, HeaderValue::from_static(value));
            }
            let query = Query::parse(Some(query)).unwrap();
            assert_eq!(last_event_id(&map, &query), id.map(str::as_bytes), "{headers:?}");
        }
    }
}
