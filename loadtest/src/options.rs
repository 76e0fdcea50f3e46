//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

use crate::{request::Resume, scenario::Scenario, schedule::Arrivals};

/// Opens many notification streams against a server and measures what arrives
#[derive(Debug, Parser)]
#[command(name = "notify-loadtest", version)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Every mode once, each limit asserted; under two minutes
    #[command(alias = "limits")]
    Suite(SuiteOptions),
    /// Rows at a rate
    Steady(SteadyOptions),
    /// Rows as fast as they are taken
    Saturation(SaturationOptions),
    /// One transaction with a row for every user
    Broadcast(BroadcastOptions),
    /// One user with all the streams
    Tabs(SteadyOptions),
    /// Streams without rows: memory and heartbeats
    Idle(IdleOptions),
    /// All connects at once
    Rush(RushOptions),
    /// All streams cut at once while rows go on
    Storm(StormOptions),
    /// Connecting and disconnecting, beside streams that stay
    Churn(ChurnOptions),
    /// Streams that do not read, beside streams that do
    SlowReaders(SlowReadersOptions),
    /// Garbage and heads that never end, beside streams that behave
    Hostile(HostileOptions),
    /// Several runs' JSON files in one report
    Compare(CompareOptions),
    /// One process of clients; started by the others
    #[command(hide = true)]
    Worker,
}

#[derive(Debug, Args)]
pub(crate) struct SuiteOptions {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Multiplies durations, rows and rounds
    #[arg(long, default_value_t = 1.0)]
    pub(crate) scale: f64,
}

#[derive(Debug, Args)]
pub(crate) struct SteadyOptions {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) rows: Rows,
}

#[derive(Debug, Args)]
pub(crate) struct SaturationOptions {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Rows in all
    #[arg(long, default_value_t = 50_000)]
    pub(crate) rows: usize,
    /// Rows in one INSERT
    #[arg(long, default_value_t = 1)]
    pub(crate) rows_per_transaction: usize,
    /// Rows in succession for one user
    #[arg(long, default_value_t = 1)]
    pub(crate) rows_per_user: usize,
}

#[derive(Debug, Args)]
pub(crate) struct BroadcastOptions {
    #[command(flatten)]
    pub(crate) common: Common,
    /// How many broadcasts
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: u32,
    /// From one to the next
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    pub(crate) every: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct IdleOptions {
    #[command(flatten)]
    pub(crate) common: Common,
    /// How long the streams stay, all of them open
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    pub(crate) duration: Duration,
    /// Steps in which they open, each weighed
    #[arg(long, default_value_t = 4)]
    pub(crate) steps: usize,
}

#[derive(Debug, Args)]
pub(crate) struct RushOptions {
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct StormOptions {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) rows: Rows,
    /// How many times all are cut
    #[arg(long, default_value_t = 1)]
    pub(crate) storms: u32,
    /// Over how long the reconnects are spread
    #[arg(long, default_value = "0s", value_parser = humantime::parse_duration)]
    pub(crate) spread: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct ChurnOptions {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Connects and disconnects in all
    #[arg(long, default_value_t = 5_000)]
    pub(crate) cycles: usize,
    /// Connects a second
    #[arg(long, default_value_t = 500.0)]
    pub(crate) connects: f64,
    /// Rows a second for the streams that stay
    #[arg(long, default_value_t = 50.0)]
    pub(crate) rate: f64,
}

#[derive(Debug, Args)]
pub(crate) struct SlowReadersOptions {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) rows: Rows,
    /// Streams that do not read until the rows are written: all of one user, who
    /// gets every second transaction
    #[arg(long, default_value_t = 100)]
    pub(crate) slow: usize,
}

#[derive(Debug, Args)]
pub(crate) struct HostileOptions {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) rows: Rows,
    /// Connections that send random bytes
    #[arg(long, default_value_t = 100)]
    pub(crate) random: usize,
    /// Connections that drip a head, a byte at a time
    #[arg(long, default_value_t = 100)]
    pub(crate) slow_heads: usize,
}

#[derive(Debug, Args)]
pub(crate) struct CompareOptions {
    /// JSON files of runs
    #[arg(required = true, num_args = 2..)]
    pub(crate) runs: Vec<PathBuf>,
    /// Where the report goes
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

/// Rows at a rate.
#[derive(Clone, Debug, Args)]
pub(crate) struct Rows {
    /// Rows a second
    #[arg(long, default_value_t = 200.0)]
    pub(crate) rate: f64,
    /// How long
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    pub(crate) duration: Duration,
    /// Rows in one INSERT
    #[arg(long, default_value_t = 1)]
    pub(crate) rows_per_transaction: usize,
    /// Rows in succession for one user
    #[arg(long, default_value_t = 1)]
    pub(crate) rows_per_user: usize,
    /// The times between transactions
    #[arg(long, value_enum, default_value = "constant")]
    pub(crate) arrivals: Arrivals,
}

/// What all modes take.
#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// Streams in all
    #[arg(long, short = 'n', default_value_t = 1_000)]
    pub(crate) streams: usize,
    /// Streams of each user
    #[arg(long, default_value_t = 1)]
    pub(crate) streams_per_user: usize,
    /// Connects a second while the streams open
    #[arg(long, default_value_t = 2_000.0)]
    pub(crate) ramp: f64,
    /// Client processes; as many as the limit on open files makes necessary
    /// where none is given
    #[arg(long)]
    pub(crate) workers: Option<usize>,
    /// How long to wait for what has not arrived
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    pub(crate) settle: Duration,
    /// How long streams may take to open beyond the ramp
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    pub(crate) open_within: Duration,
    /// What this run is called in reports
    #[arg(long)]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) target: TargetOptions,
    #[command(flatten)]
    pub(crate) writer: WriterOptions,
    #[command(flatten)]
    pub(crate) limits: LimitOptions,
    #[command(flatten)]
    pub(crate) output: OutputOptions,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "The server")]
pub(crate) struct TargetOptions {
    /// Start a throwaway Postgres and a gateway, and measure those
    #[arg(long, conflicts_with = "url")]
    pub(crate) self_contained: bool,
    /// The gateway's binary for --self-contained; beside this one by default
    #[arg(long, value_name = "FILE", requires = "self_contained")]
    pub(crate) gateway_bin: Option<PathBuf>,
    /// A further argument for that gateway (repeatable)
    #[arg(long, value_name = "ARG", requires = "self_contained", allow_hyphen_values = true)]
    pub(crate) gateway_arg: Vec<String>,
    /// The stream; {user} and {token} stand for the user's. Repeatable: the client
    /// processes, at least one for each, take turns
    #[arg(
        long,
        default_values_t = ["http://127.0.0.1:8080/api/notifications/stream".to_owned()]
    )]
    pub(crate) url: Vec<String>,
    /// A header of the request, with {user} and {token} in it (repeatable)
    #[arg(
        long,
        value_name = "LINE",
        default_values_t = ["Authorization: Bearer {token}".to_owned()]
    )]
    pub(crate) header: Vec<String>,
    /// How a stream that comes back says where it was: header:NAME, query:NAME
    /// or no
    #[arg(long, default_value = "header:Last-Event-ID")]
    pub(crate) resume: Resume,
    /// Users and tokens: a line "USER TOKEN" for each
    #[arg(long, value_name = "FILE", conflicts_with = "jwt_secret")]
    pub(crate) tokens: Option<PathBuf>,
    /// Sign the tokens (HS256) with this secret
    #[arg(long, env = "JWT_SECRET", hide_env_values = true)]
    pub(crate) jwt_secret: Option<String>,
    /// The tokens' aud
    #[arg(long, env = "JWT_AUDIENCE")]
    pub(crate) jwt_audience: Option<String>,
    /// The tokens' iss
    #[arg(long, env = "JWT_ISSUER")]
    pub(crate) jwt_issuer: Option<String>,
    /// The claim that names the user
    #[arg(long, env = "JWT_USER_CLAIM", default_value = "sub")]
    pub(crate) jwt_user_claim: String,
    /// Events that carry rows (repeatable); "message" for those without a name
    #[arg(long, default_values_t = ["notification".to_owned()])]
    pub(crate) notification_event: Vec<String>,
    /// The event that says a stream is open; empty: the answer's head does
    #[arg(long, default_value = "connected")]
    pub(crate) opened_event: String,
    /// The event that says rows may have been missed
    #[arg(long, default_value = "resync")]
    pub(crate) resync_event: String,
    /// The event that says the stream ends
    #[arg(long, default_value = "closing")]
    pub(crate) closing_event: String,
    /// A process of the server, for its CPU and memory (repeatable)
    #[arg(long, value_name = "PID")]
    pub(crate) server_pid: Vec<u32>,
    /// The first process of Postgres, for its CPU
    #[arg(long, value_name = "PID")]
    pub(crate) postgres_pid: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum WriterKind {
    /// INSERT into a table
    Postgres,
    /// POST for each row
    Http,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "The writer")]
pub(crate) struct WriterOptions {
    /// Where rows go
    #[arg(long, value_enum, default_value = "postgres")]
    pub(crate) writer: WriterKind,
    /// Connections of the writer
    #[arg(long, default_value_t = 8)]
    pub(crate) writers: usize,
    /// Bytes added to each row's message
    #[arg(long, default_value_t = 0)]
    pub(crate) padding: usize,
    /// The database
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub(crate) database_url: Option<String>,
    /// The table
    #[arg(long, default_value = "notifications")]
    pub(crate) table: String,
    /// Another INSERT: $1 the users and $2 the messages, both text[]
    #[arg(long)]
    pub(crate) insert: Option<String>,
    /// Where to POST, with {user} in it
    #[arg(long)]
    pub(crate) publish_url: Option<String>,
    /// A header of the POST (repeatable)
    #[arg(long)]
    pub(crate) publish_header: Vec<String>,
    /// The body of the POST
    #[arg(long, default_value = "{message}")]
    pub(crate) publish_body: String,
}

/// What must hold, or the exit code is 1.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitOptions {
    /// Streams open at once (suite only)
    #[arg(long, default_value_t = 1_000, overrides_with = "min_streams")]
    pub(crate) min_streams: u64,
    /// So many percent of connects and deliveries must be within their limits;
    /// 100: every single one
    #[arg(long, default_value_t = 99.0, value_parser = percentile)]
    pub(crate) percentile: f64,
    /// SYN to open
    #[arg(long, default_value = "500ms", value_parser = humantime::parse_duration)]
    pub(crate) max_connect: Duration,
    /// The intended moment to receipt (where rows come at a rate, and nothing is
    /// cut)
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    pub(crate) max_delivery: Duration,
    /// A broadcast's commit to its last delivery
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    pub(crate) max_broadcast: Duration,
    /// The server's memory for each stream, in KiB
    #[arg(long, default_value_t = 10_240.0)]
    pub(crate) max_stream_kib: f64,
    /// The server's CPU for 100 streams, in percent of a core (idle, and the
    /// suite's steady)
    #[arg(long, default_value_t = 1.0)]
    pub(crate) max_cpu_percent: f64,
    /// Measure, and let no time, memory or CPU fail the run; lost and doubled
    /// rows still do
    #[arg(long)]
    pub(crate) no_limits: bool,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "The report")]
pub(crate) struct OutputOptions {
    /// Write the results as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write a report to look at
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// No progress bar
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

fn percentile(text: &str) -> Result<f64, String> {
    let percent = text.parse().ok().filter(|percent| (0.0..=100.0).contains(percent));
    percent.ok_or_else(|| "expected a percentage".to_owned())
}

impl Command {
    /// What is to be run: the common options and the scenarios.
    pub(crate) fn scenarios(&self) -> Option<(&Common, Vec<Scenario>)> {
        Some(match self {
            Self::Suite(it) => (&it.common, crate::suite::scenarios(&it.common, it.scale)),
            Self::Steady(it) => (&it.common, vec![Scenario::steady(&it.common, &it.rows)]),
            Self::Tabs(it) => (&it.common, vec![Scenario::tabs(&it.common, &it.rows)]),
            Self::Saturation(it) => (&it.common, vec![Scenario::saturation(it)]),
            Self::Broadcast(it) => {
                (&it.common, vec![Scenario::broadcast(&it.common, it.rounds, it.every)])
            }
            Self::Idle(it) => (&it.common, vec![Scenario::idle(&it.common, it.duration, it.steps)]),
            Self::Rush(it) => (&it.common, vec![Scenario::rush(&it.common)]),
            Self::Storm(it) => {
                (&it.common, vec![Scenario::storm(&it.common, &it.rows, it.storms, it.spread)])
            }
            Self::Churn(it) => {
                (&it.common, vec![Scenario::churn(&it.common, it.cycles, it.connects, it.rate)])
            }
            Self::SlowReaders(it) => {
                (&it.common, vec![Scenario::slow_readers(&it.common, &it.rows, it.slow)])
            }
            Self::Hostile(it) => (
                &it.common,
                vec![Scenario::hostile(&it.common, &it.rows, it.random, it.slow_heads)],
            ),
            Self::Compare(_) | Self::Worker => return None,
        })
    }

    pub(crate) fn is_suite(&self) -> bool {
        matches!(self, Self::Suite(_))
    }
}
