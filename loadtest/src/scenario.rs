//! What one mode does, in terms that all of them share: streams, rows, and what
//! happens to the streams meanwhile.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    options::{Common, Rows, SaturationOptions},
    schedule::{self, Arrivals, Planned, Steady},
};

/// One mode with its numbers.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) mode: Mode,
    pub(crate) users: usize,
    pub(crate) streams_per_user: usize,
    /// Further streams that do not read, all of one further user, who gets every
    /// second transaction.
    pub(crate) slow: usize,
    /// Connects a second; none: all at once.
    pub(crate) ramp: Option<f64>,
    /// Steps in which the streams open, each weighed.
    pub(crate) steps: usize,
    pub(crate) traffic: Traffic,
    pub(crate) trouble: Trouble,
    pub(crate) padding: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    Idle,
    Rush,
    Steady,
    Broadcast,
    Tabs,
    Saturation,
    Storm,
    Churn,
    SlowReaders,
    Hostile,
}

/// The rows.
#[derive(Clone, Debug)]
pub(crate) enum Traffic {
    /// None, for so long.
    None(Duration),
    Steady(Steady),
    Broadcast {
        rounds: u32,
        every: Duration,
    },
    Saturation {
        rows: usize,
        rows_per_transaction: usize,
        rows_per_user: usize,
    },
}

/// What happens to the server meanwhile.
#[derive(Clone, Debug)]
pub(crate) enum Trouble {
    None,
    Storms { count: u32, spread: Duration },
    Churn { cycles: usize, interval: Duration },
    Hostile { random: usize, slow_heads: usize },
}

impl Mode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Rush => "rush",
            Self::Steady => "steady",
            Self::Broadcast => "broadcast",
            Self::Tabs => "tabs",
            Self::Saturation => "saturation",
            Self::Storm => "storm",
            Self::Churn => "churn",
            Self::SlowReaders => "slow-readers",
            Self::Hostile => "hostile",
        }
    }
}

impl Scenario {
    pub(crate) fn steady(common: &Common, rows: &Rows) -> Self {
        Self::new(Mode::Steady, common, Traffic::of(rows))
    }

    pub(crate) fn tabs(common: &Common, rows: &Rows) -> Self {
        Self {
            users: 1,
            streams_per_user: common.streams,
            ..Self::new(Mode::Tabs, common, Traffic::of(rows))
        }
    }

    pub(crate) fn saturation(options: &SaturationOptions) -> Self {
        let &SaturationOptions { rows, rows_per_transaction, rows_per_user, ref common } = options;
        let traffic = Traffic::Saturation { rows, rows_per_transaction, rows_per_user };
        Self::new(Mode::Saturation, common, traffic)
    }

    pub(crate) fn broadcast(common: &Common, rounds: u32, every: Duration) -> Self {
        Self::new(Mode::Broadcast, common, Traffic::Broadcast { rounds, every })
    }

    pub(crate) fn idle(common: &Common, duration: Duration, steps: usize) -> Self {
        Self { steps: steps.max(1), ..Self::new(Mode::Idle, common, Traffic::None(duration)) }
    }

    pub(crate) fn rush(common: &Common) -> Self {
        Self { ramp: None, ..Self::new(Mode::Rush, common, Traffic::None(Duration::ZERO)) }
    }

    pub(crate) fn storm(common: &Common, rows: &Rows, count: u32, spread: Duration) -> Self {
        let trouble = Trouble::Storms { count: count.max(1), spread };
        Self { trouble, ..Self::new(Mode::Storm, common, Traffic::of(rows)) }
    }

    pub(crate) fn churn(common: &Common, cycles: usize, connects: f64, rate: f64) -> Self {
        let interval = Duration::from_secs_f64(1.0 / connects.max(0.1));
        let cycles_u32 = u32::try_from(cycles).unwrap_or(u32::MAX);
        let rows = Rows {
            rate,
            duration: interval * cycles_u32,
            rows_per_transaction: 1,
            rows_per_user: 1,
            arrivals: Arrivals::Constant,
        };
        let trouble = Trouble::Churn { cycles, interval };
        Self { trouble, ..Self::new(Mode::Churn, common, Traffic::of(&rows)) }
    }

    pub(crate) fn slow_readers(common: &Common, rows: &Rows, slow: usize) -> Self {
        Self { slow, ..Self::new(Mode::SlowReaders, common, Traffic::of(rows)) }
    }

    pub(crate) fn hostile(common: &Common, rows: &Rows, random: usize, slow_heads: usize) -> Self {
        let trouble = Trouble::Hostile { random, slow_heads };
        Self { trouble, ..Self::new(Mode::Hostile, common, Traffic::of(rows)) }
    }

    fn new(mode: Mode, common: &Common, traffic: Traffic) -> Self {
        let streams_per_user = common.streams_per_user.clamp(1, common.streams.max(1));
        Self {
            mode,
            users: (common.streams / streams_per_user).max(1),
            streams_per_user,
            slow: 0,
            ramp: Some(common.ramp.max(1.0)),
            steps: 1,
            traffic,
            trouble: Trouble::None,
            padding: common.writer.padding,
        }
    }

    /// Streams that read.
    pub(crate) fn streams(&self) -> usize {
        self.users * self.streams_per_user
    }

    /// Users with rows: the one who does not read, too.
    pub(crate) fn all_users(&self) -> usize {
        self.users + usize::from(self.slow > 0)
    }

    /// The transactions to be written.
    pub(crate) fn plan(&self, seed: u64) -> Vec<Planned> {
        let users = u32::try_from(self.users).unwrap_or(u32::MAX);
        let mut plan = match &self.traffic {
            Traffic::None(_) => Vec::new(),
            Traffic::Steady(steady) => steady.plan(users, seed),
            &Traffic::Broadcast { rounds, every } => schedule::broadcast(users, rounds, every),
            &Traffic::Saturation { rows, rows_per_transaction, rows_per_user } => {
                schedule::saturation(rows, rows_per_transaction, rows_per_user, users, seed)
            }
        };
        if self.slow > 0 {
            let every_second = plan.iter_mut().skip(1).step_by(2);
            every_second.for_each(|planned| planned.users.fill(users));
        }
        plan
    }

    /// How long the rows take by the schedule.
    pub(crate) fn duration(&self) -> Duration {
        match &self.traffic {
            Traffic::None(duration) => *duration,
            Traffic::Steady(steady) => steady.duration,
            Traffic::Broadcast { rounds, every } => *every * *rounds,
            Traffic::Saturation { .. } => Duration::ZERO,
        }
    }

    /// In a few words.
    pub(crate) fn description(&self) -> String {
        let streams = match self.streams_per_user {
            1 => format!("{} streams", self.users),
            each => format!("{} streams of {} user(s)", self.users * each, self.users),
        };
        let rows = match &self.traffic {
            Traffic::None(duration) if duration.is_zero() => String::new(),
            Traffic::None(duration) => {
                format!(", no rows for {}", humantime::format_duration(*duration))
            }
            Traffic::Steady(steady) => format!(
                ", {} rows/s for {}",
                steady.rows_per_second,
                humantime::format_duration(Duration::from_millis(
                    u64::try_from(steady.duration.as_millis()).unwrap_or(u64::MAX)
                ))
            ),
            Traffic::Broadcast { rounds, .. } => format!(", {rounds} rows for everyone"),
            Traffic::Saturation { rows, rows_per_transaction: 1, .. } => {
                format!(", {rows} rows as fast as they are taken")
            }
            Traffic::Saturation { rows, rows_per_transaction, .. } => {
                format!(
                    ", {rows} rows as fast as they are taken, {rows_per_transaction} a transaction"
                )
            }
        };
        let trouble = match &self.trouble {
            Trouble::None if self.slow > 0 => format!(", beside {} that do not read", self.slow),
            Trouble::None => String::new(),
            Trouble::Storms { count, .. } => format!(", all cut {count} time(s)"),
            Trouble::Churn { cycles, .. } => format!(", beside {cycles} connects and disconnects"),
            Trouble::Hostile { random, slow_heads } => {
                format!(", beside {random} senders of garbage and {slow_heads} slow heads")
            }
        };
        format!("{streams}{rows}{trouble}")
    }
}

impl Traffic {
    fn of(rows: &Rows) -> Self {
        Self::Steady(Steady {
            rows_per_second: rows.rate,
            duration: rows.duration,
            rows_per_transaction: rows.rows_per_transaction,
            rows_per_user: rows.rows_per_user,
            arrivals: rows.arrivals,
        })
    }
}
