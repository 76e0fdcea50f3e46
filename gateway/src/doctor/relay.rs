//! Whether the relay works, and a source is heard over it.

use std::time::Duration;

use super::{Finding, Verdict};
use crate::{
    config::RelayConfig,
    relay::nats::{Look, NatsRelay},
};

/// A source says something each second.
const SILENCE: Duration = Duration::from_secs(5);

/// Looks at the stream, and appends nothing to it.
pub(super) async fn examine(config: &RelayConfig) -> Finding {
    let finding = |verdict, what: String| Finding::new("relay", verdict, what);
    let relay = match NatsRelay::connect(config).await {
        Ok(relay) => relay,
        Err(error) => return finding(Verdict::Wrong, error.to_string()),
    };
    let name = &config.stream;
    match relay.look().await {
        Err(error) => finding(Verdict::Wrong, error.to_string())
            .mended_by("# docs/scaling.md says which permissions a gateway needs, and that NATS needs JetStream"),
        Ok(None) => finding(
            Verdict::Warning,
            format!("NATS has no stream {name} yet: no source has run. Edges sweep for themselves"),
        )
        .mended_by("notify-gateway serve --relay-role source   # or both"),
        Ok(Some(Look { version, said_ago: Some(ago), edges })) if ago <= SILENCE => finding(
            Verdict::Ok,
            format!(
                "NATS {version}, stream {name}: the source said something {:.1} s ago; {edges} \
                 edges read it",
                ago.as_secs_f64()
            ),
        ),
        Ok(Some(Look { said_ago, .. })) => {
            let since = said_ago.map_or_else(
                || "lately".to_owned(),
                |ago| format!("for {} s", ago.as_secs()),
            );
            finding(
                Verdict::Warning,
                format!("no source has said anything {since}: edges sweep for themselves"),
            )
            .mended_by("# /readyz of the gateways with --relay-role source or both says why")
        }
    }
}
