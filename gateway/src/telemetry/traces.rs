//! Traces by OTLP over HTTP, where a variable asks for them
//! ([OpenTelemetry's environment variables](https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/)):
//! `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`. The sampler, the batches,
//! the headers and the service's name are those of the other variables.

use std::{env, fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use opentelemetry::{
    propagation::TextMapPropagator as _,
    trace::{TraceContextExt as _, TracerProvider as _},
};
use opentelemetry_http::{HeaderExtractor, HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{SdkTracerProvider, Tracer},
};
use tokio::runtime::Handle;
use tracing::{Span, Subscriber};
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt as _};
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

use super::SPANS;
use crate::{
    auth::ProxiedConnector,
    tls::{self, Trust},
};

/// What a collector answers is a few bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// How long the last spans may take when the process ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Where the spans go, until the end of the process.
pub(super) struct Exporter(SdkTracerProvider);

impl Exporter {
    /// The exporter that the environment asks for, if it asks for one. Within a runtime, which
    /// sends the spans.
    ///
    /// # Errors
    ///
    /// A variable that cannot be used.
    pub(super) fn from_env() -> Result<Option<Self>, String> {
        let Some(endpoint) = endpoint() else { return Ok(None) };
        let client = Collector::new(&endpoint)
            .map_err(|error| format!("OTEL_EXPORTER_OTLP_ENDPOINT: {endpoint:?}: {error}"))?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .build()
            .map_err(|error| format!("OTEL_EXPORTER_OTLP_ENDPOINT: {error}"))?;
        let mut resource = Resource::builder();
        if env::var_os("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name("notify-gateway");
        }
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.build())
            .build();
        Ok(Some(Self(provider)))
    }

    /// Hands our spans over, and nothing else.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let tracer: Tracer = self.0.tracer("notify-gateway");
        let layer: OpenTelemetryLayer<S, Tracer> = tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false);
        layer.with_filter(filter_fn(|metadata| metadata.is_span() && metadata.target() == SPANS))
    }

    /// Sends what has not been sent, for as long as that may take.
    pub(super) async fn flush(self) {
        // It waits for the runtime to send, which so must not wait for it.
        let flushing =
            tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(FLUSH_TIMEOUT));
        if let Ok(Err(error)) = flushing.await {
            tracing::debug!(%error, "the last spans are lost");
        }
    }
}

/// The trace that the request is a part of (`traceparent`, W3C Trace Context) is the span's.
pub fn continue_trace(span: &Span, headers: &HeaderMap) {
    let context = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
    if context.span().span_context().is_valid() {
        // It fails where no exporter is set up, and then no span is sent anyway.
        let _untraced = span.set_parent(context);
    }
}

fn endpoint() -> Option<String> {
    let set = |name| env::var(name).ok().filter(|value| !value.is_empty());
    let is = |name, value: &str| set(name).is_some_and(|it| it.eq_ignore_ascii_case(value));
    if is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
        return None;
    }
    set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(|| set("OTEL_EXPORTER_OTLP_ENDPOINT"))
}

/// The client of the collector. The exporter calls it from a thread of its own; the gateway's
/// runtime sends.
struct Collector {
    client: Client<HttpsConnector<ProxiedConnector>, Full<Bytes>>,
    runtime: Handle,
}

impl Collector {
    fn new(endpoint: &str) -> Result<Self, HttpError> {
        let url: Uri = endpoint.parse()?;
        let tls = tls::client_config(Trust::of(&url)?, None)?;
        let connector = ProxiedConnector::from_env(&url)?.with_tls(tls);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { client, runtime: Handle::try_current()? })
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").finish_non_exhaustive()
    }
}

#[async_trait::async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let sending = self.runtime.spawn(async move {
            let (head, body) = client.request(request.map(Full::new)).await?.into_parts();
            let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await?.to_bytes();
            Ok(Response::from_parts(head, body))
        });
        sending.await?
    }
}
