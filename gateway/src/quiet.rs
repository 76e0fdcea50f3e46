//! Quiet: while many transactions a second write, the triggers do not notify.
//!
//! A transaction that notifies takes a lock of the whole cluster at its commit, over the
//! flush of the WAL: notifying commits go one at a time. Gateways sweep anyway; under load
//! they sweep often and have the triggers be quiet, for a second at a time
//! (`notify_gateway.state.quiet_until`). What is written then is found by the next sweep.

use std::time::Duration;

use clap::ValueEnum;
use parking_lot::Mutex;
use tokio::time::Instant;

/// When the triggers are to be quiet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum QuietMode {
    /// Each transaction rings.
    Never,
    /// Under load none does.
    Auto,
    /// None ever does: for applications that `PREPARE TRANSACTION`.
    Always,
}

/// Quiet for good, until somebody ends it.
pub const FOR_GOOD: Duration = Duration::MAX;

/// How long quiet lasts when no gateway renews it.
const LASTS: Duration = Duration::from_secs(1);

/// It is renewed when this much is left, in seconds.
const RENEWED_AT: f64 = 0.5;

/// Quiet that lasts longer than this was set by another clock. schema.sql goes by the
/// same.
const MAX_LEFT: f64 = 2.0;

/// Over which time transactions are counted.
const WINDOW: Duration = Duration::from_millis(500);

/// How many transactions write events, and what that calls for.
#[derive(Debug)]
pub struct Load {
    /// `None`: it is another gateway's to say.
    mode: Option<QuietMode>,
    /// Transactions in a window that are many.
    many: u32,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    count: u32,
    is_loaded: bool,
}

impl Load {
    /// Loaded are more than `above` transactions a second.
    pub fn new(mode: QuietMode, above: u32) -> Self {
        let window = Window { began: Instant::now(), count: 0, is_loaded: false };
        Self { mode: Some(mode), many: (above / 2).max(1), window: Mutex::new(window) }
    }

    /// Changes nothing, whatever the load is: for who only sweeps while it hears no source.
    pub fn of_others() -> Self {
        Self { mode: None, ..Self::new(QuietMode::Never, u32::MAX) }
    }

    /// Counts transactions that have written; whether they have become many by it, so that
    /// a sweep should look at once.
    pub fn add(&self, transactions: usize) -> bool {
        let mut window = self.window.lock();
        window.roll(self.many);
        let transactions = u32::try_from(transactions).unwrap_or(u32::MAX);
        window.count = window.count.saturating_add(transactions);
        let were_few = !window.is_loaded;
        window.is_loaded |= window.count >= self.many;
        were_few && window.is_loaded && self.mode == Some(QuietMode::Auto)
    }

    /// For how long the triggers are to be quiet from now on, where `left` says how long
    /// they are, in seconds: zero ends it, `None` changes nothing.
    pub fn wanted(&self, left: Left) -> Option<Duration> {
        let mut window = self.window.lock();
        window.roll(self.many);
        match self.mode? {
            QuietMode::Always => (left != Left::FOR_GOOD).then_some(FOR_GOOD),
            QuietMode::Auto if window.is_loaded => {
                let is_long = left.is_quiet() && left.0 > RENEWED_AT && left != Left::FOR_GOOD;
                (!is_long).then_some(LASTS)
            }
            QuietMode::Auto => left.is_quiet().then_some(Duration::ZERO),
            // Another gateway's load is its own.
            QuietMode::Never => (left == Left::FOR_GOOD).then_some(Duration::ZERO),
        }
    }
}

impl Window {
    fn roll(&mut self, many: u32) {
        let now = Instant::now();
        let took = now.duration_since(self.began);
        if took < WINDOW {
            return;
        }
        // What makes it quiet is twice what keeps it so.
        let many = f64::from(if self.is_loaded { many / 2 } else { many });
        self.is_loaded = f64::from(self.count) >= many * took.div_duration_f64(WINDOW);
        (self.began, self.count) = (now, 0);
    }
}

/// How long the triggers are quiet, in seconds of the server's clock; less than zero when
/// they were that long ago.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Left(pub f64);

impl Left {
    /// They never were.
    pub const NEVER: Self = Self(f64::NEG_INFINITY);
    const FOR_GOOD: Self = Self(f64::INFINITY);

    /// Whether they are.
    pub fn is_quiet(self) -> bool {
        self == Self::FOR_GOOD || 0.0 < self.0 && self.0 <= MAX_LEFT
    }

    /// Whether they were so lately that a transaction from then may still run.
    pub fn was_lately(self) -> bool {
        const LATELY: f64 = 600.0;
        !self.is_quiet() && -LATELY < self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn wait(millis: u64) {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn many_transactions_make_it_quiet_and_few_end_it() {
        let load = Load::new(QuietMode::Auto, 1000);
        assert_eq!(load.wanted(Left::NEVER), None);
        assert!(!load.add(499));
        assert_eq!(load.wanted(Left(-5.0)), None);
        assert!(load.add(1), "in less than a window");
        assert!(!load.add(1), "once");
        assert_eq!(load.wanted(Left(-5.0)), Some(LASTS));
        assert_eq!(load.wanted(Left(0.9)), None);
        assert_eq!(load.wanted(Left(0.4)), Some(LASTS));
        // A clock has been set back, or somebody wanted it for good.
        assert_eq!(load.wanted(Left(3600.0)), Some(LASTS));
        assert_eq!(load.wanted(Left(f64::INFINITY)), Some(LASTS));
        // Half of it keeps it so.
        for _ in 0..4 {
            wait(500).await;
            assert_eq!(load.wanted(Left(0.4)), Some(LASTS));
            load.add(260);
        }
        wait(500).await;
        assert_eq!(load.wanted(Left(0.9)), None);
        load.add(200);
        wait(500).await;
        assert_eq!(load.wanted(Left(0.9)), Some(Duration::ZERO));
        assert_eq!(load.wanted(Left(-0.1)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn always_and_never_go_by_no_load() {
        let always = Load::new(QuietMode::Always, 1000);
        assert_eq!(always.wanted(Left(0.9)), Some(FOR_GOOD));
        assert_eq!(always.wanted(Left(f64::INFINITY)), None);
        let never = Load::new(QuietMode::Never, 1000);
        assert!(!never.add(100_000));
        assert_eq!(never.wanted(Left::NEVER), None);
        assert_eq!(never.wanted(Left(0.9)), None);
        assert_eq!(never.wanted(Left(f64::INFINITY)), Some(Duration::ZERO));
    }

    #[test]
    fn quiet_is_what_the_trigger_takes_for_it() {
        for (left, quiet, lately) in [
            (f64::NEG_INFINITY, false, false),
            (-3600.0, false, false),
            (-1.0, false, true),
            (0.5, true, false),
            (3600.0, false, true),
            (f64::INFINITY, true, false),
        ] {
            assert_eq!(Left(left).is_quiet(), quiet, "{left}");
            assert_eq!(Left(left).was_lately(), lately, "{left}");
        }
    }
}
