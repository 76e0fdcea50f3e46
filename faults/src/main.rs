//! notify-faults: a real PostgreSQL with a standby, two real gateways (or five with NATS
//! between them), writers
//! and clients, and a network between them that breaks; processes are killed,
//! frozen and restarted meanwhile. At the end every row in the table must have
//! reached every client it was due to, once.
//!
//! The gateways are judged by what their clients read and by nothing else: no
//! code of theirs runs in here.

mod changer;
mod client;
mod cluster;
mod fault;
mod gateway;
mod announcer;
mod ledger;
mod nats;
mod port;
mod proxy;
mod stage;
mod states;
mod cleanup;
mod verdict;
mod writer;

use std::{
    env, fs,
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use anyhow::Context as _;
use clap::{Parser, ValueEnum as _};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    announcer::Announcer,
    changer::{Changer, Rows},
    cleanup::Cleanup,
    client::Client,
    fault::Kind,
    gateway::Binary,
    ledger::Ledger,
    stage::{Cast, Stage},
    verdict::{Truth, Verdict},
};

/// Connections whose rows change.
const CHANGERS: usize = 3;

/// How long the end waits while nothing more arrives.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a lineage that has everything is still watched for what comes
/// twice: a heartbeat and a few sweeps.
const AFTERWARDS: Duration = Duration::from_secs(3);

#[derive(Debug, Parser)]
#[command(name = "notify-faults", version, about)]
struct Arguments {
    /// How long things go wrong, the end not counted
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// What chance is made from; random where it is not given
    #[arg(long, env = "FAULT_SEED")]
    seed: Option<u64>,
    /// Pages that are open from the beginning; as many again come later
    #[arg(long, default_value_t = 24)]
    clients: usize,
    /// Users the pages and the rows belong to
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1000))]
    users: u16,
    /// Connections that write
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=50))]
    writers: u16,
    /// Rows a second that all writers make together, about
    #[arg(long, default_value_t = 80.0)]
    rate: f64,
    /// The notify-gateway binary; found beside this one where it is not given
    #[arg(long, env = "NOTIFY_GATEWAY", value_name = "PATH")]
    gateway: Option<PathBuf>,
    /// Faults to leave out
    #[arg(long, value_delimiter = ',', value_name = "FAULT")]
    without: Vec<Kind>,
    /// The only faults there are
    #[arg(long, value_delimiter = ',', value_name = "FAULT", conflicts_with = "without")]
    only: Vec<Kind>,
    /// No faults at all, and clients that never cut themselves
    #[arg(long, conflicts_with_all = ["without", "only"])]
    calm: bool,
    /// How many times a standby is promoted, at most
    #[arg(long, default_value_t = 2)]
    promotions: u32,
    /// A flag more for `notify-gateway serve`: --gateway-flag=--replay-limit=50
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true)]
    gateway_flag: Vec<String>,
    /// Tell on standard output, in lines of JSON, where everything is and when a
    /// fault begins and ends; stay until standard input ends
    #[arg(long)]
    tell: bool,
    /// With a relay: two gateways that may be the source, three edges, and NATS between them
    #[arg(long)]
    relay: bool,
    /// Leave the directory with the logs where it is
    #[arg(long)]
    keep: bool,
}

impl Arguments {
    fn kinds(&self) -> Vec<Kind> {
        let all = Kind::value_variants().iter().copied();
        all.filter(|kind| match self.only.as_slice() {
            [] => !self.calm && !self.without.contains(kind),
            only => only.contains(kind),
        })
        .filter(|kind| self.relay || !kind.is_of_relay())
        .collect()
    }

    fn binary(&self) -> anyhow::Result<Binary> {
        let found = match &self.gateway {
            Some(path) => path.exists().then(|| path.clone()),
            None => env::current_exe()?
                .ancestors()
                .skip(1)
                .map(|directory| directory.join("notify-gateway"))
                .find(|path| path.is_file()),
        };
        let path = found.context(
            "no notify-gateway binary: build it (cargo build -p notify-gateway) or name it (--gateway)",
        )?;
        Ok(Binary::new(path.canonicalize()?, self.gateway_flag.clone()))
    }
}

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    match runtime.block_on(run(Arguments::parse())) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(&error),
    }
}

/// The harness itself could not do its work: nothing is known of the gateway.
fn fail(error: &anyhow::Error) -> ExitCode {
    let _written = writeln!(io::stderr(), "notify-faults: {error:#}");
    ExitCode::from(2)
}

/// The whole run; says whether all promises were kept.
async fn run(arguments: Arguments) -> anyhow::Result<bool> {
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..));
    say(&format!("seed {seed}"));
    let mut rng = fastrand::Rng::with_seed(seed);
    let directory = env::temp_dir().join(format!("notify-faults-{}", Uuid::new_v4().simple()));
    fs::create_dir(&directory)?;
    let cleanup = Arc::new(Cleanup::start(&directory, arguments.keep)?);
    if arguments.keep {
        say(&format!("logs in {}", directory.display()));
    }
    let ledger = Arc::new(Ledger::new(usize::from(arguments.users)));
    let kinds = arguments.kinds();
    let promotions = if kinds.contains(&Kind::Promotion) { arguments.promotions } else { 0 };
    let binary = arguments.binary()?;
    let cast = if arguments.relay { Cast::Relay } else { Cast::Listeners };
    let stage =
        Stage::set(cast, &binary, &directory, ledger, promotions, cleanup, &mut rng).await?;
    let stage = Arc::new(if arguments.tell { stage.told_by(Announcer::hire()) } else { stage });
    let played = play(&arguments, &binary, &stage, kinds, &mut rng).await;
    let judged = match played {
        Ok(truth) => judge(&stage, &truth).await,
        Err(error) => Err(error),
    };
    stage.clear().await;
    let is_good = judged?;
    say(&format!("{}, seed {seed}", if is_good { "all promises kept" } else { "BROKEN PROMISES" }));
    Ok(is_good)
}

/// Everybody plays until the time is up; then the roads are opened, and what is
/// still due has time to arrive.
async fn play(
    arguments: &Arguments,
    binary: &Binary,
    stage: &Arc<Stage>,
    kinds: Vec<Kind>,
    rng: &mut fastrand::Rng,
) -> anyhow::Result<Truth> {
    let (calm, stop) = (CancellationToken::new(), CancellationToken::new());
    let watching = stage.clone();
    let mut background = JoinSet::new();
    background.spawn(async move { watching.watch().await });
    background.spawn(progress(stage.clone()));
    // Dropped at the end, and the clients with it.
    let _clients = open_pages(arguments, binary, stage, &calm, rng).await?;
    let mut writers = JoinSet::new();
    for number in 0..usize::from(arguments.writers) {
        let mut writer = stage.writer(number, rng.fork());
        writer.rows_per_second = arguments.rate / f64::from(arguments.writers);
        writer.stop = stop.clone();
        writers.spawn(writer.run());
    }
    let rows = Rows::default();
    for number in 0..CHANGERS {
        let mut writer = stage.writer(usize::from(arguments.writers) + number, rng.fork());
        writer.stop = stop.clone();
        writers.spawn(Changer::new(writer, Rows::clone(&rows)).run());
    }
    let time_is_up = CancellationToken::new();
    let promotions = promotions(arguments, &kinds, rng);
    let faults = fault::run(stage.clone(), kinds, promotions, rng.fork(), time_is_up.clone());
    let mut faults = tokio::spawn(faults);
    let interrupted = tokio::select! {
        () = sleep(arguments.duration) => None,
        signal = tokio::signal::ctrl_c() => Some(signal),
        () = stage.announcer.released() => None,
        // It ends before its time only when something cannot be started again.
        ended = &mut faults => return Err(ended?.err().context("the faults ended early")?),
    };
    if interrupted.is_some() {
        say("interrupted: going to the end; once more ends it at once");
        background.spawn(async {
            // Nothing is left behind: that is what the cleanup is for.
            let _second = tokio::signal::ctrl_c().await;
            std::process::exit(130);
        });
    }
    time_is_up.cancel();
    faults.await??;
    stage.heal();
    if stage.announcer.is_asked_for() {
        stage.announcer.over();
        stage.announcer.released().await;
    }
    stop.cancel();
    writers.join_all().await;
    calm.cancel();
    let truth = stage.truth().await?;
    settle(stage, &truth).await;
    Ok(truth)
}

/// When the standby takes over: once in each of equal parts of the run, the
/// last of which is left for what follows.
fn promotions(arguments: &Arguments, kinds: &[Kind], rng: &mut fastrand::Rng) -> Vec<Duration> {
    let count = if kinds.contains(&Kind::Promotion) { arguments.promotions } else { 0 };
    let part = arguments.duration.div_f64(f64::from(count) + 1.0);
    (0..count).map(|number| part.mul_f64(f64::from(number) + 0.2 + 0.8 * rng.f64())).collect()
}

/// The clients: one half from the beginning, the other at some time later.
async fn open_pages(
    arguments: &Arguments,
    binary: &Binary,
    stage: &Arc<Stage>,
    calm: &CancellationToken,
    rng: &mut fastrand::Rng,
) -> anyhow::Result<JoinSet<()>> {
    let users = stage.ledger.books().users.clone();
    let mut tokens = Vec::new();
    for user in users {
        tokens.push(binary.token(user).await?);
    }
    let moody = Arc::new(AtomicBool::new(!arguments.calm));
    let latest = arguments.duration.mul_f64(0.7);
    let mut pages = JoinSet::new();
    for number in 0..arguments.clients * 2 {
        let user = number % tokens.len();
        let client = Client {
            number,
            user,
            token: tokens[user].clone(),
            ports: stage.client_side.iter().map(|proxy| proxy.port()).collect(),
            ledger: stage.ledger.clone(),
            rng: rng.fork(),
            calm: calm.clone(),
            moody: moody.clone(),
        };
        let comes = if number < arguments.clients { 0.0 } else { rng.f64() };
        pages.spawn(async move {
            sleep(latest.mul_f64(comes)).await;
            client.run().await;
        });
    }
    Ok(pages)
}

/// Waits until nothing is missing, or nothing more arrives; then for what may
/// come twice.
async fn settle(stage: &Stage, truth: &Truth) {
    let state = || {
        let books = stage.ledger.books();
        let pending = books.pending(|row| truth.rows.contains_key(&books.rows[row].id))
            + books.differences(&truth.states).count();
        (pending, books.counts.get("delivered").copied())
    };
    let mut last = state();
    let mut since = Instant::now();
    while last.0 > 0 && since.elapsed() < PATIENCE {
        sleep(Duration::from_millis(250)).await;
        let now = state();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    sleep(AFTERWARDS).await;
}

/// Prints the table, and the offenders before it; says whether there are none.
async fn judge(stage: &Stage, truth: &Truth) -> anyhow::Result<bool> {
    let panics = stage.panics().await;
    let mut books = stage.ledger.books();
    books.problems.extend(panics);
    let verdict = Verdict::of(&books, truth);
    let mut out = io::stdout().lock();
    writeln!(out)?;
    for story in verdict.told() {
        writeln!(out, "{story}")?;
    }
    for problem in &books.problems {
        writeln!(out, "PROBLEM {problem}")?;
    }
    for (name, value) in verdict.table(&books) {
        writeln!(out, "{name:<40} {value:>12}")?;
    }
    let memory = stage.memory.lock();
    for (name, memory) in memory.iter() {
        let [start, max, end] = [memory.start, memory.max, memory.end].map(|kib| kib / 1024);
        let name = format!("memory of gateway {name}, start/max/end");
        writeln!(out, "{name:<40} {:>12} MiB", format!("{start}/{max}/{end}"))?;
    }
    Ok(verdict.is_good(&books))
}

/// A line now and then: on a terminal the same one, renewed each second.
async fn progress(stage: Arc<Stage>) {
    let is_terminal = io::stderr().is_terminal();
    loop {
        sleep(Duration::from_secs(if is_terminal { 1 } else { 10 })).await;
        let line = {
            let now = stage.ledger.now().as_secs();
            let books = stage.ledger.books();
            let committed = (0..books.rows.len()).filter(|&row| books.is_committed(row)).count();
            let delivered = books.counts.get("delivered").copied().unwrap_or_default();
            let pending = books.pending(|row| books.is_committed(row));
            let doubled: usize = books.lineages.iter().map(|lineage| lineage.doubled.len()).sum();
            let (faults, problems) = (books.faults.len(), books.problems.len());
            format!(
                "{now:>5} s  {committed} rows, {delivered} delivered, {pending} pending, \
                 {doubled} doubled, {faults} faults, {problems} problems"
            )
        };
        let mut err = io::stderr().lock();
        let _written = if is_terminal {
            write!(err, "\r\x1b[2K{line}").and_then(|()| err.flush())
        } else {
            writeln!(err, "{line}")
        };
    }
}

fn say(line: &str) {
    let _written = writeln!(io::stderr(), "notify-faults: {line}");
}
