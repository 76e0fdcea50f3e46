//! Log lines and traces.

#[cfg(feature = "otel")]
mod traces;

use std::io::IsTerminal as _;

use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, Layer, filter::filter_fn, fmt, fmt::MakeWriter, layer::SubscriberExt,
    util::SubscriberInitExt,
};

#[cfg(feature = "otel")]
pub use traces::continue_trace;

use crate::config::LogFormat;

/// Without the feature `otel` there is no trace to go on with.
#[cfg(not(feature = "otel"))]
pub fn continue_trace(_span: &tracing::Span, _headers: &http::HeaderMap) {}

/// The target of our spans, which are at the level `trace`: each costs a comparison where nobody
/// wants it.
pub const SPANS: &str = "notify_gateway::spans";

/// What the process tells has been sent when this has ended.
#[derive(Default)]
#[must_use = "the last spans are lost without Telemetry::end"]
pub struct Telemetry {
    #[cfg(feature = "otel")]
    exporter: Option<traces::Exporter>,
}

impl Telemetry {
    /// Sends what is left.
    pub async fn end(self) {
        #[cfg(feature = "otel")]
        if let Some(exporter) = self.exporter {
            exporter.flush().await;
        }
    }
}

/// Starts logging to standard error, this crate at `info` unless `RUST_LOG`
/// says otherwise, and tracing where `OTEL_` variables ask for it. Within a runtime.
///
/// # Errors
///
/// A `RUST_LOG` that does not parse, or an endpoint that is no URL, as one line.
pub fn init(format: LogFormat) -> Result<Telemetry, String> {
    let directives = std::env::var("RUST_LOG").unwrap_or_default();
    init_with(format, &directives, std::io::stderr)
}

/// The same with what `RUST_LOG` would say, into any writer.
///
/// # Errors
///
/// As [`init`].
pub fn init_with<W>(format: LogFormat, directives: &str, writer: W) -> Result<Telemetry, String>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = match directives {
        // What the libraries say of a failure stands in our own line about it.
        "" => EnvFilter::new("info,deadpool=error,tokio_postgres=warn,async_nats=off"),
        _ => EnvFilter::try_new(directives)
            .map_err(|error| format!("RUST_LOG: {directives:?} is not valid: {error}"))?,
    };
    let layer = match format {
        LogFormat::Text => {
            let colours = std::io::stderr().is_terminal();
            fmt::layer().with_ansi(colours).with_writer(writer).boxed()
        }
        LogFormat::Json => fmt::layer().json().flatten_event(true).with_writer(writer).boxed(),
    };
    let telemetry = Telemetry {
        #[cfg(feature = "otel")]
        exporter: traces::Exporter::from_env()?,
    };
    let log = layer.with_filter(filter).with_filter(filter_fn(is_discreet));
    let registry = tracing_subscriber::registry().with(log);
    #[cfg(feature = "otel")]
    let registry = registry.with(telemetry.exporter.as_ref().map(traces::Exporter::layer));
    registry.try_init().map_err(|error| error.to_string())?;
    // The filters would say no to each line of a library below `info`, at a cost
    // a row.
    log::set_max_level(log::LevelFilter::Info);
    Ok(telemetry)
}

/// Below `info` the libraries write what passes through them: headers with
/// tokens, queries with rows. No `RUST_LOG` lets that into a log.
fn is_discreet(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::INFO || metadata.target().starts_with("notify_gateway")
}
