//! notify-loadtest: opens many notification streams against a deployment, has
//! rows written, and measures what arrives.
//!
//! ```text
//! options → scenario → run ─┬─ fleet ══ workers: connections, parser, accounts
//!                           ├─ writer: schedule → Postgres or HTTP, the ledger
//!                           └─ meter: /proc, four times a second
//!                    verdict: accounts against the ledger → report
//! ```

// What things are. Pure.
mod clock;
mod marker;
mod ledger;
mod schedule;
mod histogram;
mod verdict;
mod bottleneck;
mod wire;
mod request;
// The command line, and what it asks for.
mod options;
mod scenario;
mod suite;
mod protocol;
// Who does it.
mod files;
mod proc;
mod worker;
mod fleet;
mod writer;
mod stage;
mod target;
mod meter;
mod progress;
mod tally;
mod run;
// What comes out.
mod limits;
mod report;

use std::{
    io::Write as _,
    process::ExitCode,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};

use options::{Command, Common, Options, OutputOptions};
use progress::Bar;
use report::Report;
use scenario::Scenario;
use target::Target;

/// Exit codes: a limit was missed; it could not be measured.
const MISSED: u8 = 1;
const FAILED: u8 = 2;

fn main() -> ExitCode {
    match run(&Options::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(MISSED),
        Err(error) => {
            // Nothing to do about a terminal that is gone.
            let _told = writeln!(std::io::stderr(), "notify-loadtest: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

/// Whether all limits hold.
fn run(command: &Command) -> anyhow::Result<bool> {
    match command {
        Command::Worker => worker::run().map(|()| true),
        Command::Compare(options) => report::compare::run(options).map(|()| true),
        _ => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(until_signal(measure(command)))
        }
    }
}

/// Gives up at Ctrl-C or SIGTERM: what is dropped ends its processes.
async fn until_signal(work: impl Future<Output = anyhow::Result<bool>>) -> anyhow::Result<bool> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        outcome = work => outcome,
        _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
        _ = terminate.recv() => anyhow::bail!("terminated"),
    }
}

async fn measure(command: &Command) -> anyhow::Result<bool> {
    let (common, scenarios) = command.scenarios().context("nothing to measure")?;
    let began = (Instant::now(), SystemTime::now());
    let bar = Bar::new(scenarios.len(), common.output.quiet);
    bar.say("getting ready");
    let target = Target::prepare(common).await?;
    let mut results = Vec::new();
    for scenario in &scenarios {
        let name = scenario.mode.name();
        results.push(run::run(scenario, &target, common, &bar).await.context(name)?);
        bar.done();
    }
    bar.finish();
    let report = Report {
        format: report::FORMAT,
        name: common.name.clone().unwrap_or_else(|| name_of(&scenarios)),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: began.1.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        took_s: began.0.elapsed().as_secs_f64(),
        target: target_of(common, &target),
        machine: proc::machine(),
        command: command_line(),
        checks: limits::checks(&results, &common.limits, command.is_suite()),
        results,
    };
    drop(target);
    publish(&report, &common.output)?;
    Ok(report.passed())
}

fn publish(report: &Report, output: &OutputOptions) -> anyhow::Result<()> {
    if let Some(path) = &output.json {
        report.write(path)?;
    }
    if let Some(path) = &output.html {
        let page = report::html::render(report);
        std::fs::write(path, page).with_context(|| format!("cannot write {}", path.display()))?;
    }
    std::io::stdout().write_all(report::table::render(report).as_bytes())?;
    Ok(())
}

fn name_of(scenarios: &[Scenario]) -> String {
    match scenarios {
        [only] => only.mode.name().to_owned(),
        _ => "suite".to_owned(),
    }
}

fn target_of(common: &Common, target: &Target) -> String {
    if common.target.self_contained {
        "a gateway and a Postgres of its own".to_owned()
    } else {
        // A token may stand in the query.
        let path = |url: &String| url.split('?').next().unwrap_or_default().to_owned();
        target.urls.iter().map(path).collect::<Vec<_>>().join(", ")
    }
}

/// The arguments, without what must stay secret.
fn command_line() -> String {
    let mut hide_next = false;
    let arguments = std::env::args().skip(1).map(|argument| {
        let is_secret = |name: &str| {
            matches!(
                name,
                "--jwt-secret"
                    | "--database-url"
                    | "--header"
                    | "--publish-header"
                    | "--url"
                    | "--publish-url"
            )
        };
        if std::mem::take(&mut hide_next) {
            return "…".to_owned();
        }
        hide_next = is_secret(&argument);
        match argument.split_once('=') {
            Some((name, _)) if is_secret(name) => format!("{name}=…"),
            _ => argument,
        }
    });
    std::iter::once("notify-loadtest".to_owned()).chain(arguments).collect::<Vec<_>>().join(" ")
}
