//! The public port: one path, who may have it, and every answer but 200.

pub(crate) mod address;
mod admin;
mod admission;
mod cors;
pub(crate) mod credentials;
pub(crate) mod query;

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use ipnet::IpNet;

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
    problem::Problem,
    revocation::Revocations,
    server::{Answer, Peer, ServerRequest},
    sse::{self, Closing},
    stream::{EventStream, StreamContext},
};
use address::{client_address, own_host};
use admission::Admission;
use cors::Cors;
use credentials::{CredentialError, CredentialSources, is_same_origin};
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
        Box::pin(async move { Ok(routes.answer(&request).await) })
    }
}

impl Inner {
    async fn answer(&self, request: &Request<()>) -> Result<Response<ResponseBody>, Problem> {
        if request.uri().path() != STREAM_PATH {
            return Err(Problem::not_found());
        }
        match *request.method() {
            Method::GET => {}
            Method::OPTIONS => return Ok(options()),
            _ => return Err(Problem::method_not_allowed(ALLOW)),
        }
        if !self.enabled {
            self.metrics.refused().disabled.increment(1);
            return Ok(empty(StatusCode::NO_CONTENT));
        }
        let query = match Query::parse(request.uri().query()) {
            Ok(query) => query,
            Err(error) => {
                // A bad token is told so, whatever else is the matter.
                let none = Query::default();
                if self.credentials.token(request.headers(), &none, true).is_ok() {
                    self.authenticate(request, &none).await?;
                }
                self.metrics.refused().bad_request.increment(1);
                return Err(Problem::bad_request(error.to_string()));
            }
        };
        let peer = request.extensions().get::<Peer>();
        let is_flooded = peer.is_some_and(|peer| {
            let trusted = &self.trusted_proxies;
            let address = client_address(peer.address, request.headers(), trusted);
            address.is_some_and(|address| self.admission.is_flooded_by(address))
        });
        let identity = self.authenticate(request, &query).await?;
        // While nobody is connected nothing is read: now it is.
        self.freshness.ensure().await;
        if self.revocations.refuse(&identity.user, identity.issued_at) {
            return Err(self.unauthorized(TokenError::Revoked));
        }
        let resumed = last_event_id(request.headers(), &query);
        // A bad token was told so: what follows is for those who may come in.
        if is_flooded || self.admission.is_flooded_for(&identity.user) {
            return self.refuse(request, Closing::RateLimited);
        }
        if !self.health.has_been_ready() || !self.hub.has_horizon() {
            return self.refuse(request, Closing::Starting);
        }
        match self.hub.subscribe(identity.user.clone(), identity.issued_at) {
            Ok(subscription) => {
                // Only now: a revocation that comes from here on finds the
                // stream in the hub.
                if self.revocations.refuse(&identity.user, identity.issued_at) {
                    return Err(self.unauthorized(TokenError::Revoked));
                }
                if resumed.is_some() {
                    self.metrics.reconnected(self.streams.ends.last(&identity.user));
                }
                let resumed =
                    resumed.map(|cursor| Cursor::parse(cursor).map_err(|_| Resync::Malformed));
                let id = self.next_stream_id.fetch_add(1, Ordering::Relaxed);
                let context = Arc::clone(&self.streams);
                let stream = EventStream::open(
                    context,
                    subscription,
                    &identity,
                    resumed,
                    peer.map(|peer| peer.stalled.clone()).unwrap_or_default(),
                    id,
                );
                Ok(event_stream(ResponseBody::Stream(Box::new(stream))))
            }
            Err(closing) => self.refuse(request, closing),
        }
    }

    async fn authenticate(
        &self,
        request: &Request<()>,
        query: &Query<'_>,
    ) -> Result<Identity, Problem> {
        let refused = self.metrics.refused();
        let peer = request.extensions().get::<Peer>().map(|peer| peer.address);
        let host = own_host(peer, request, &self.trusted_proxies);
        let is_own_page =
            is_same_origin(request.headers(), host) || self.cors.allows(request.headers());
        let token = self.credentials.token(request.headers(), query, is_own_page);
        let token = token.map_err(|error| match error {
            CredentialError::Missing => {
                refused.unauthorized.increment(1);
                Problem::unauthorized(None)
            }
            CredentialError::ForeignOrigin => {
                refused.forbidden.increment(1);
                Problem::forbidden("the cookie came with a request from another origin")
            }
            CredentialError::Contradiction => {
                refused.bad_request.increment(1);
                Problem::bad_request(error.to_string())
            }
        })?;
        self.verifier.verify(&token).await.map_err(|error| match error {
            // Nobody can say yet whether it is a good one.
            TokenError::NoKeys => {
                self.metrics.refused().soft(Closing::Starting);
                Problem::unavailable(&error.to_string(), self.streams.retry())
            }
            error => self.unauthorized(error),
        })
    }

    fn unauthorized(&self, error: TokenError) -> Problem {
        self.metrics.refused().unauthorized.increment(1);
        Problem::unauthorized(Some(error.to_string()))
    }

    /// For a browser's `EventSource` every status but 200 is the end for good:
    /// one that asks for an event stream by name is let in, told why it cannot
    /// stay and when to come back.
    fn refuse(
        &self,
        request: &Request<()>,
        closing: Closing,
    ) -> Result<Response<ResponseBody>, Problem> {
        self.metrics.refused().soft(closing);
        let retry = self.streams.retry();
        if !asks_for_event_stream(request.headers()) {
            return Err(match closing {
                Closing::TooManyStreams => {
                    Problem::too_many("this user has as many streams open as one may", retry)
                }
                Closing::RateLimited => Problem::too_many("too many connection attempts", retry),
                Closing::Full => {
                    Problem::unavailable("the gateway has as many streams as it may", retry)
                }
                Closing::Starting => {
                    Problem::unavailable("the gateway has not reached its database yet", retry)
                }
                _ => Problem::unavailable("the gateway is stopping", retry),
            });
        }
        let mut body = Vec::new();
        sse::closing(&mut body, None, closing, retry);
        Ok(event_stream(ResponseBody::full(body)))
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

    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Full(_) => Poll::Pending,
            Self::Stream(body) => body.poll_over(cx),
        }
    }
}

const ALLOW: &str = "GET, OPTIONS";

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

fn event_stream(body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // nginx would hold events back until its buffer is full.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
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
/// themselves, else the query; an empty one is none.
fn last_event_id<'a>(headers: &'a HeaderMap, query: &'a Query<'_>) -> Option<&'a [u8]> {
    let header = headers.get(LAST_EVENT_ID).map(HeaderValue::as_bytes);
    let query = || query.first("last_event_id").map(str::as_bytes);
    header.filter(|id| !id.is_empty()).or_else(query).filter(|id| !id.is_empty())
}
