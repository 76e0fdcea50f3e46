//! Where a client begins that has no cursor. No clock.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// What was committed this long before a client connects without a cursor is
/// brought to it: the time between its list and its stream.
const OVERLAP: Duration = Duration::from_secs(2);

/// Those that are kept lie this far apart, but for the newest: some ten at a
/// time.
const APART: Duration = Duration::from_millis(250);

/// The horizons of the last seconds and when each came, the oldest first.
pub(super) struct Beginnings<T>(VecDeque<(Instant, T)>);

impl<T> Beginnings<T> {
    /// An empty list.
    pub(super) fn new() -> Self {
        Self(VecDeque::new())
    }

    /// `horizon` is the newest from `now` on.
    pub(super) fn push(&mut self, now: Instant, horizon: T) {
        self.forget_old(now);
        // Without one of those between a client only begins a little earlier.
        // The newest has to stay: none may follow it for long.
        if let [.., (before, _), (last, _)] = *self.0.make_contiguous()
            && last < before + APART
        {
            self.0.pop_back();
        }
        self.0.push_back((now, horizon));
    }

    /// Forgets all of them: they are of another epoch.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// What was the newest [`OVERLAP`] ago, or the oldest that is known.
    pub(super) fn at(&mut self, now: Instant) -> Option<&T> {
        self.forget_old(now);
        self.0.front().map(|(_, horizon)| horizon)
    }

    fn forget_old(&mut self, now: Instant) {
        while self.0.get(1).is_some_and(|&(at, _)| at + OVERLAP <= now) {
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_given_out_was_newest_an_overlap_ago_or_a_little_before(
            gaps in prop::collection::vec(0..600_u64, 1..40),
            wait in 0..5000_u64,
        ) {
            let start = Instant::now();
            let mut beginnings = Beginnings::new();
            let mut times = Vec::new();
            let mut at = start;
            for gap in gaps {
                at += Duration::from_millis(gap);
                beginnings.push(at, at);
                times.push(at);
                prop_assert!(beginnings.0.len() <= 11);
            }
            let asked = at + Duration::from_millis(wait);
            let newest = times.iter().rev().find(|&&came| came + OVERLAP <= asked);
            let given = *beginnings.at(asked).unwrap();
            match newest {
                Some(&newest) => {
                    prop_assert!(given <= newest, "nothing of the overlap is left out");
                    let next = times.iter().find(|&&came| came > given);
                    let is_exact = next.is_none_or(|&next| next + OVERLAP > asked);
                    prop_assert!(is_exact || newest < given + APART * 2);
                }
                None => prop_assert_eq!(given, times[0]),
            }
        }
    }

    #[test]
    fn the_last_of_several_in_a_row_is_where_clients_begin_once_it_is_old_enough() {
        let start = Instant::now();
        let mut beginnings = Beginnings::new();
        for (millis, name) in [(0, "a"), (100, "b"), (200, "c")] {
            beginnings.push(start + Duration::from_millis(millis), name);
        }
        assert_eq!(beginnings.at(start + Duration::from_millis(2199)), Some(&"a"));
        assert_eq!(beginnings.at(start + Duration::from_millis(2200)), Some(&"c"));
    }
}
