//! Which rows are written for whom, and when: fixed before the first is sent.
//!
//! A slow server must not slow its own test down. Were the next row sent when
//! the last one is through, a server that hangs for a second would be asked
//! nothing during it, and its one slow answer would vanish among the quick ones
//! ("coordinated omission"). So the times stand beforehand, and every latency is
//! counted from them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One transaction to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    /// After the beginning.
    pub(crate) at: Duration,
    /// The user of each row, in the order of the rows.
    pub(crate) users: Vec<u32>,
}

/// The times between transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Arrivals {
    /// All the same.
    Constant,
    /// As independent writers come: exponentially distributed.
    Poisson,
}

/// Rows at a rate.
#[derive(Clone, Debug)]
pub(crate) struct Steady {
    pub(crate) rows_per_second: f64,
    pub(crate) duration: Duration,
    pub(crate) rows_per_transaction: usize,
    /// How many rows in succession are of one user.
    pub(crate) rows_per_user: usize,
    pub(crate) arrivals: Arrivals,
}

impl Steady {
    /// The transactions, for `users` users that take turns in a random order.
    pub(crate) fn plan(&self, users: u32, seed: u64) -> Vec<Planned> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let rows = self.rows_per_transaction.max(1);
        let mut turns = Turns::new(users, self.rows_per_user, &mut rng);
        let gap = Duration::from_secs_f64(rows_as_f64(rows) / self.rows_per_second.max(1e-3));
        let mut at = Duration::ZERO;
        let mut plan = Vec::new();
        while at < self.duration {
            plan.push(Planned { at, users: turns.next(rows) });
            at += match self.arrivals {
                Arrivals::Constant => gap,
                Arrivals::Poisson => gap.mul_f64(-(1.0 - rng.f64()).ln()),
            };
        }
        plan
    }
}

/// `rows` rows with no times: as fast as they are taken.
pub(crate) fn saturation(
    rows: usize,
    rows_per_transaction: usize,
    rows_per_user: usize,
    users: u32,
    seed: u64,
) -> Vec<Planned> {
    let mut turns = Turns::new(users, rows_per_user, &mut fastrand::Rng::with_seed(seed));
    let per_transaction = rows_per_transaction.max(1);
    (0..rows)
        .step_by(per_transaction)
        .map(|first| per_transaction.min(rows - first))
        .map(|count| Planned { at: Duration::ZERO, users: turns.next(count) })
        .collect()
}

/// One transaction with a row for every user, `rounds` times.
pub(crate) fn broadcast(users: u32, rounds: u32, pause: Duration) -> Vec<Planned> {
    (0..rounds).map(|round| Planned { at: pause * round, users: (0..users).collect() }).collect()
}

/// The same rows, each by itself: for a server that takes one at a time.
pub(crate) fn one_by_one(plan: Vec<Planned>) -> Vec<Planned> {
    let each = |Planned { at, users }| {
        users.into_iter().map(move |user| Planned { at, users: vec![user] })
    };
    plan.into_iter().flat_map(each).collect()
}

/// Users taking turns: each comes once before any comes again, so that no stream
/// goes without rows by chance.
struct Turns {
    order: Vec<u32>,
    row: usize,
    rows_per_user: usize,
}

impl Turns {
    fn new(users: u32, rows_per_user: usize, rng: &mut fastrand::Rng) -> Self {
        let mut order: Vec<u32> = (0..users.max(1)).collect();
        rng.shuffle(&mut order);
        Self { order, row: 0, rows_per_user: rows_per_user.max(1) }
    }

    fn next(&mut self, rows: usize) -> Vec<u32> {
        let turn = |row| self.order[row / self.rows_per_user % self.order.len()];
        let users = (self.row..self.row + rows).map(turn).collect();
        self.row += rows;
        users
    }
}

fn rows_as_f64(rows: usize) -> f64 {
    f64::from(u32::try_from(rows).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steady(arrivals: Arrivals) -> Steady {
        Steady {
            rows_per_second: 200.0,
            duration: Duration::from_secs(5),
            rows_per_transaction: 2,
            rows_per_user: 2,
            arrivals,
        }
    }

    #[test]
    fn a_rate_is_kept_by_times_fixed_in_advance() {
        let plan = steady(Arrivals::Constant).plan(10, 1);
        assert_eq!(plan.len(), 500);
        let gaps = plan.windows(2).map(|pair| pair[1].at - pair[0].at);
        assert!(gaps.into_iter().all(|gap| gap == Duration::from_millis(10)));
    }

    #[test]
    fn poisson_arrivals_keep_the_rate_on_average_and_differ_from_each_other() {
        let plan = steady(Arrivals::Poisson).plan(10, 1);
        assert!((400..600).contains(&plan.len()), "{}", plan.len());
        assert!(plan.is_sorted_by_key(|planned| planned.at));
        assert_ne!(plan[1].at - plan[0].at, plan[2].at - plan[1].at);
    }

    #[test]
    fn every_user_has_a_turn_before_any_has_two() {
        let plan = steady(Arrivals::Constant).plan(10, 1);
        let mut users: Vec<u32> = plan[..10].iter().map(|planned| planned.users[0]).collect();
        assert!(plan.iter().all(|planned| planned.users[0] == planned.users[1]));
        users.sort_unstable();
        assert_eq!(users, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn saturation_writes_the_rows_asked_for_and_no_more() {
        let plan = saturation(25, 10, 1, 4, 1);
        let sizes: Vec<usize> = plan.iter().map(|planned| planned.users.len()).collect();
        assert_eq!(sizes, [10, 10, 5]);
    }

    #[test]
    fn a_broadcast_has_a_row_for_everyone() {
        let plan = broadcast(3, 2, Duration::from_secs(1));
        assert_eq!(plan[1], Planned { at: Duration::from_secs(1), users: vec![0, 1, 2] });
    }
}
