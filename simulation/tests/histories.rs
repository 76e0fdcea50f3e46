//! Nothing is lost or doubled with every safeguard, and something is without
//! any one of them.
//!
//! These are the few seconds that `cargo test` has. The whole of it:
//!
//! ```text
//! cargo run --release --package notify-simulation -- --histories 1000000
//! ```

use std::sync::Arc;

use clap::ValueEnum as _;
use notify_gateway::metrics::Metrics;
use notify_simulation::{
    campaign::{self, Campaign, Tally},
    history::{self, Options, Telling},
    oracle::Violation,
    plan::Relayed,
    sabotage::Sabotage,
};

fn run(seed: u64, histories: u64, without: Option<Sabotage>) -> Tally {
    let relayed = match without {
        Some(without) if without.is_of_relay() => Relayed::Always,
        Some(_) => Relayed::Never,
        None => Relayed::Some,
    };
    let (time, threads, keep_going) = (None, 2, false);
    let campaign = Campaign { seed, histories, time, threads, without, relayed, keep_going };
    campaign::run(campaign, |_| {})
}

#[test]
fn with_every_safeguard_nothing_goes_wrong() {
    let tally = run(1, 16_000, None);
    assert_eq!(tally.failed, None, "{:?}", tally.violations);
    assert_eq!(tally.histories, 16_000);
    // A simulation in which nothing happens finds nothing either.
    assert!(tally.rows > 200_000, "{}", tally.rows);
    assert!(tally.faults.iter().all(|count| *count > 100), "{:?}", tally.faults);
}

#[test]
fn without_any_one_safeguard_something_does() {
    for without in Sabotage::all() {
        let tally = run(1, 100_000, Some(*without));
        let name = without.to_possible_value().unwrap();
        assert!(tally.failed.is_some(), "without {} nothing fails", name.get_name());
        for violation in [Violation::Misrouted, Violation::Phantom] {
            assert_eq!(tally.count(violation), 0, "{violation} without {}", name.get_name());
        }
    }
}

#[test]
fn a_seed_gives_the_same_history_again_to_the_last_line() {
    let metrics = Arc::new(Metrics::new());
    for seed in 1..200 {
        let relayed = Relayed::Some;
        let options = Options { seed, without: None, relayed, steps: None, trace: Telling::Log };
        let log = history::run(options, &metrics).log;
        assert!(log.len() > 50, "{} lines of seed {seed}", log.len());
        let again = history::run(options, &metrics).log;
        let difference = log.iter().zip(&again).find(|(line, again)| line != again);
        assert_eq!(difference, None, "seed {seed}");
        assert_eq!(log.len(), again.len(), "seed {seed}");
    }
}
