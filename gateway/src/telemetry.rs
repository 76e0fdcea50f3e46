//! Log lines.

use std::io::IsTerminal as _;

use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, Layer, filter::filter_fn, fmt, layer::SubscriberExt, util::SubscriberInitExt,
};

use crate::config::LogFormat;

/// Starts logging to standard error: this crate at `info` unless `RUST_LOG`
/// says otherwise.
///
/// # Errors
///
/// A `RUST_LOG` that does not parse, as one line.
pub fn init(format: LogFormat) -> Result<(), String> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(directives) if !directives.is_empty() => EnvFilter::try_new(&directives)
            .map_err(|error| format!("RUST_LOG: {directives:?} is not valid: {error}"))?,
        // What the libraries say of a failure stands in our own line about it.
        _ => EnvFilter::new("info,deadpool=error,tokio_postgres=warn"),
    };
    let layer = match format {
        LogFormat::Text => {
            let colours = std::io::stderr().is_terminal();
            fmt::layer().with_ansi(colours).with_writer(std::io::stderr).boxed()
        }
        LogFormat::Json => {
            fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).boxed()
        }
    };
    tracing_subscriber::registry()
        .with(layer.with_filter(filter).with_filter(filter_fn(is_discreet)))
        .try_init()
        .map_err(|error| error.to_string())?;
    // The filters would say no to each line of a library below `info`, at a cost
    // a row.
    log::set_max_level(log::LevelFilter::Info);
    Ok(())
}

/// Below `info` the libraries write what passes through them: headers with
/// tokens, queries with rows. No `RUST_LOG` lets that into a log.
fn is_discreet(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::INFO || metadata.target().starts_with("notify_gateway")
}
