//! `notify-gateway check`.

use std::{fmt::Write as _, io::Write as _, time::Duration};

use anyhow::Context as _;
use http::Uri;
use notify_gateway::{
    config::Settings,
    doctor::{self, Finding, Questions, Verdict},
};

use super::{Failure, serve};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A token that should open a stream: whether it does, and if not, why
    #[arg(long, env = "CHECK_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
    /// Where browsers ask for the stream, through the proxy: whether it comes through as it is
    /// sent (with --token)
    #[arg(long, value_name = "URL")]
    url: Option<Uri>,
    /// A transaction that is open for longer is told of: it holds replays up
    #[arg(long, default_value = "5m", value_parser = humantime::parse_duration,
          value_name = "DURATION")]
    long_transaction: Duration,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: Settings,
}

/// False where something is wrong.
pub(super) fn run(arguments: Arguments) -> Result<bool, Failure> {
    let config = arguments.settings.into_config()?;
    let questions = Questions {
        token: arguments.token.as_deref(),
        url: arguments.url.as_ref(),
        long_transaction: arguments.long_transaction,
    };
    let findings = serve::runtime(1)?.block_on(doctor::examine(&config, questions));
    let printed = if arguments.json {
        serde_json::to_string_pretty(&findings).context("cannot write JSON")? + "\n"
    } else {
        for_people(&findings)
    };
    std::io::stdout().write_all(printed.as_bytes()).context("cannot print")?;
    Ok(findings.iter().all(|finding| finding.verdict < Verdict::Wrong))
}

fn for_people(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { about, verdict, what, mend } in findings {
        let verdict = match verdict {
            Verdict::Ok => "ok",
            Verdict::Note => "note",
            Verdict::Warning => "warning",
            Verdict::Wrong => "WRONG",
        };
        // Writing to a string does not fail.
        let _written = writeln!(text, "{verdict:<8} {about}: {what}");
        for line in mend {
            let _written = writeln!(text, "         {line}");
        }
    }
    text
}
