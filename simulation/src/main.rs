//! notify-simulation: random histories, until one loses or doubles a row.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use clap::{Parser, ValueEnum};
use notify_gateway::metrics::Metrics;
use notify_simulation::{
    campaign::{self, Campaign, Tally},
    history::{self, Options, Telling},
    oracle::Violation,
    plan::{Act, Relayed},
    sabotage::Sabotage,
};

/// Runs random histories of the gateway's core against a simulated Postgres and
/// counts what is lost or doubled. Exits with 1 if anything is.
#[derive(Parser)]
struct Args {
    /// How many histories
    #[arg(long, default_value_t = 1_000_000)]
    histories: u64,

    /// The seed of the first; each further one has the next number
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// How many threads [default: one for each processor]
    #[arg(long)]
    threads: Option<usize>,

    /// End after so many seconds
    #[arg(long)]
    seconds: Option<u64>,

    /// Take a safeguard out: something has to be found
    #[arg(long, value_enum)]
    without: Option<Sabotage>,

    /// Which histories have a relay
    #[arg(long, value_enum, default_value_t)]
    relay: Relayed,

    /// Go on after a history that failed
    #[arg(long)]
    keep_going: bool,

    /// Run the one history of this seed and tell every step
    #[arg(long)]
    trace: bool,

    /// With --trace: heal after so many steps
    #[arg(long)]
    steps: Option<usize>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let failed = if args.trace { trace(&args) } else { run(&args) };
    match failed {
        Ok(false) => ExitCode::SUCCESS,
        // A reader that has closed the pipe has read enough.
        Ok(true) | Err(_) => ExitCode::FAILURE,
    }
}

fn trace(args: &Args) -> io::Result<bool> {
    let Args { seed, without, relay, steps, .. } = *args;
    let options = Options { seed, without, relayed: relay, steps, trace: Telling::Print };
    let outcome = history::run(options, &Arc::new(Metrics::new()));
    let mut out = io::stdout().lock();
    for (violation, what) in &outcome.book.violations {
        writeln!(out, "{violation}: {what}")?;
    }
    writeln!(out, "{} steps, {} rows delivered", outcome.steps, outcome.book.rows)?;
    Ok(!outcome.book.violations.is_empty())
}

fn run(args: &Args) -> io::Result<bool> {
    let threads =
        args.threads.unwrap_or_else(|| thread::available_parallelism().map_or(1, Into::into));
    let campaign = Campaign {
        seed: args.seed,
        histories: args.histories,
        time: args.seconds.map(Duration::from_secs),
        threads,
        without: args.without,
        relayed: args.relay,
        keep_going: args.keep_going,
    };
    let began = Instant::now();
    let tally = campaign::run(campaign, |tally| {
        // A progress line that nobody reads is no reason to stop.
        let _gone = progress(tally, began.elapsed(), args.histories);
    });
    table(&tally, began.elapsed())?;
    let Some(seed) = tally.failed else { return Ok(false) };
    failure(seed, args)?;
    Ok(true)
}

fn progress(tally: &Tally, took: Duration, all: u64) -> io::Result<()> {
    let bad: u64 = tally.violations.values().sum();
    let rate = rate(tally, took);
    let Tally { histories, rows, .. } = tally;
    let mut err = io::stderr().lock();
    write!(err, "\r{histories} of {all} histories, {rows} rows, {bad} wrong, {rate:.0}/s  ")?;
    err.flush()
}

fn table(tally: &Tally, took: Duration) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mut line = |name: &str, value: u64| writeln!(out, "{name:<28}{value:>14}");
    writeln!(io::stderr().lock())?;
    line("histories", tally.histories)?;
    line("steps", tally.steps)?;
    line("rows delivered", tally.rows)?;
    for violation in Violation::ALL {
        line(&violation.to_string(), tally.count(violation))?;
    }
    line("doubled after an epoch", tally.doubled_by_clamp)?;
    line("taken for another, set back", tally.taken_for_another)?;
    line("resyncs by the limit", tally.resyncs)?;
    for (fault, count) in Act::FAULTS.iter().zip(tally.faults) {
        line(&format!("fault {fault:?}"), count)?;
    }
    let rate = rate(tally, took);
    writeln!(out, "{:<28}{rate:>14.0}", "histories/s")
}

fn rate(tally: &Tally, took: Duration) -> f64 {
    tally.histories as f64 / took.as_secs_f64().max(0.001)
}

fn failure(seed: u64, args: &Args) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let Some((steps, outcome)) = campaign::shorten(seed, args.without, args.relay) else {
        return writeln!(out, "\nseed {seed} failed and does not fail again");
    };
    writeln!(out, "\nseed {seed} fails after {steps} steps:")?;
    for (violation, what) in &outcome.book.violations {
        writeln!(out, "  {violation}: {what}")?;
    }
    let without = args.without.map(|without| option("without", without)).unwrap_or_default();
    let relay = option("relay", args.relay);
    writeln!(out, "again: notify-simulation --seed {seed} --steps {steps} --trace{relay}{without}")
}

fn option(name: &str, value: impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map(|value| format!(" --{name} {}", value.get_name())).unwrap_or_default()
}
