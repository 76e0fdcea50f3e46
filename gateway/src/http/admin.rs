//! The operator's port: `/healthz`, `/readyz`, `/metrics`.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use serde::Serialize;

use super::Problem;
use crate::{
    health::Health,
    metrics::Metrics,
    server::{Malformed, ServerRequest},
};

/// Answers the requests of the admin port.
#[derive(Clone)]
pub struct Admin {
    health: Arc<Health>,
    metrics: Arc<Metrics>,
}

impl Admin {
    /// Answers from these parts.
    pub fn new(health: Arc<Health>, metrics: Arc<Metrics>) -> Self {
        Self { health, metrics }
    }

    async fn answer(&self, request: &Request<()>) -> Result<Response<Full<Bytes>>, Problem> {
        if let Some(Malformed(problem)) = request.extensions().get() {
            return Err(problem.clone());
        }
        let answer = match request.uri().path() {
            "/healthz" => self.healthz(),
            "/readyz" => self.readyz(request.uri().query()),
            // The text format's own media type; scrapers choose the parser by it.
            "/metrics" => text("text/plain; version=0.0.4; charset=utf-8", self.metrics().await),
            _ => return Err(Problem::not_found()),
        };
        match *request.method() {
            Method::GET | Method::HEAD => Ok(answer),
            _ => Err(Problem::method_not_allowed("GET, HEAD")),
        }
    }

    async fn metrics(&self) -> String {
        let is_asked = self.health.is_to_listen();
        self.metrics.probe_age(is_asked.then(|| self.health.probe_age()));
        let metrics = Arc::clone(&self.metrics);
        // Where the kernel has to count a hundred thousand open files, streams do
        // not wait for it.
        tokio::task::spawn_blocking(move || metrics.render()).await.unwrap_or_default()
    }

    /// 200 while the process lives and its tasks move: for those who restart it otherwise.
    fn healthz(&self) -> Response<Full<Bytes>> {
        let stuck = self.health.stuck();
        let mut response =
            text("text/plain; charset=utf-8", format!("{}\n", stuck.unwrap_or("ok")));
        if stuck.is_some() {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        response
    }

    /// 200 while streams may be opened here, for load balancers; with `?strict`
    /// only while nothing is amiss either, for alerts.
    fn readyz(&self, query: Option<&str>) -> Response<Full<Bytes>> {
        #[derive(Serialize)]
        struct Document {
            ready: bool,
            degraded: bool,
            reasons: Vec<String>,
        }
        let is_strict = query.unwrap_or_default().split('&').any(|pair| {
            let name = pair.split('=').next().unwrap_or_default();
            name == "strict" && pair != "strict=false"
        });
        let readiness = self.health.readiness();
        let (ready, degraded) = (readiness.is_ready, readiness.is_degraded());
        let document = Document { ready, degraded, reasons: readiness.reasons };
        let body = serde_json::to_string(&document).unwrap_or_default() + "\n";
        let mut response = text("application/json", body);
        if !ready || is_strict && degraded {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        response
    }
}

impl hyper::service::Service<ServerRequest> for Admin {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn call(&self, request: ServerRequest) -> Self::Future {
        let (admin, request) = (self.clone(), request.map(|_body| ()));
        Box::pin(async move {
            let answer = admin.answer(&request).await;
            Ok(answer.unwrap_or_else(|problem| problem.into_response(Full::new)))
        })
    }
}

fn text(content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
