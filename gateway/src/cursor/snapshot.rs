//! Which transactions had ended at one moment: Postgres' own name for a set of
//! rows.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// What an encoded snapshot's holes may take of the bytes of a cursor; the rest is for rows. At one byte a
/// hole (the next one less than 129 transactions away) that is 1,024 writers at once.
const MAX_HOLE_BYTES: usize = 1024;

/// Longest varint of a `u64`: ⌈64 / 7⌉ bytes.
pub(super) const MAX_NUMBER_BYTES: usize = 10;

/// Which transactions had committed or aborted at one moment: all below `xmax` except `xip`.
///
/// One set has one representation, so that `==` compares sets: `xmax` follows a transaction that
/// is seen. The transaction number 0, which Postgres never gives out, counts as seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    xmax: u64,
    /// The holes, in ascending order: each above 0 and below `xmax - 1`.
    xip: Box<[u64]>,
}

impl Snapshot {
    /// The one that sees nothing.
    pub fn empty() -> Self {
        Self { xmax: 1, xip: Box::default() }
    }

    /// Whether `xact` had ended, one way or the other.
    pub fn sees(&self, xact: u64) -> bool {
        xact < self.xmax && self.xip.binary_search(&xact).is_err()
    }

    /// Whether every transaction before `xact` had ended.
    pub fn sees_all_below(&self, xact: u64) -> bool {
        self.xmax >= xact && self.xip.first().is_none_or(|hole| *hole >= xact)
    }

    /// Whether this sees everything that `other` sees.
    pub fn contains(&self, other: &Self) -> bool {
        // `other` sees `other.xmax - 1`, always.
        other.xmax <= self.xmax
            && self
                .xip
                .iter()
                .take_while(|hole| **hole < other.xmax)
                .all(|hole| other.xip.binary_search(hole).is_ok())
    }

    /// The union of this with what `later` sees of the transactions before `end`.
    ///
    /// Its holes are some of this one's, or some of `later`'s: it is never longer than both.
    #[must_use]
    pub fn advance(&self, later: &Self, end: u64) -> Self {
        let end = end.min(later.xmax);
        let ours = self.xip.iter().filter(|hole| **hole >= end || !later.sees(**hole));
        let theirs = later.xip.iter().filter(|hole| (self.xmax..end).contains(hole));
        Self::new(self.xmax.max(end), ours.chain(theirs).copied().collect())
    }

    /// What of this holds where transactions from `first` on are others.
    #[must_use]
    pub fn clamp(&self, first: u64) -> Self {
        let xmax = self.xmax.min(first.max(1));
        let xip = self.xip.iter().copied().filter(|hole| *hole < xmax);
        Self::new(xmax, xip.collect())
    }

    /// From here on nothing is seen: the replay reads `xact_id >= xmax`.
    pub fn xmax(&self) -> u64 {
        self.xmax
    }

    /// Below `xmax`, what is not seen, ascending: the replay reads these too.
    pub fn xip(&self) -> &[u64] {
        &self.xip
    }

    /// Brings `xip` (ascending, each at least 1 and below `xmax`) into the one representation.
    pub(super) fn new(mut xmax: u64, mut xip: Vec<u64>) -> Self {
        while xip.last().is_some_and(|hole| hole + 1 == xmax) {
            xip.pop();
            xmax -= 1;
        }
        Self { xmax, xip: xip.into_boxed_slice() }
    }

    /// `xmax` and holes of the largest older snapshot whose holes take no more than
    /// `MAX_HOLE_BYTES`. Nearly always this one.
    ///
    /// A later snapshot never gives a smaller one here, so a client's cursors only grow.
    pub(super) fn fitting(&self) -> (u64, &[u64]) {
        if self.xip.len() <= MAX_HOLE_BYTES / MAX_NUMBER_BYTES {
            return (self.xmax, &self.xip);
        }
        let mut bytes = 0;
        let too_long = self.xip.windows(2).position(|pair| {
            bytes += number_bytes(pair[1] - pair[0] - 1);
            bytes > MAX_HOLE_BYTES
        });
        let Some(place) = too_long else {
            return (self.xmax, &self.xip);
        };
        let (mut xmax, mut xip) = (self.xip[place + 1], &self.xip[..=place]);
        while let [older @ .., hole] = xip
            && hole + 1 == xmax
        {
            (xmax, xip) = (*hole, older);
        }
        (xmax, xip)
    }
}

/// The text of a `pg_snapshot`, `xmin:xmax:xip,xip…`.
///
/// <https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-SNAPSHOT>
impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let xmin = self.xip.first().unwrap_or(&self.xmax);
        write!(f, "{xmin}:{}:", self.xmax)?;
        for (place, hole) in self.xip.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(f, "{comma}{hole}")?;
        }
        Ok(())
    }
}

/// Accepts what Postgres's own `pg_snapshot` input accepts, without its leniency in numbers.
impl FromStr for Snapshot {
    type Err = SnapshotError;

    fn from_str(text: &str) -> Result<Self, SnapshotError> {
        let mut fields = text.split(':');
        let (Some(xmin), Some(xmax), Some(list), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(SnapshotError);
        };
        let (xmin, xmax) = (xact(xmin)?, xact(xmax)?);
        if xmin > xmax {
            return Err(SnapshotError);
        }
        let mut xip = Vec::new();
        // Splitting an empty text would give one empty number.
        for hole in list.split(',').take_while(|_| !list.is_empty()) {
            let hole = xact(hole)?;
            let ascending = xip.last().is_none_or(|last| *last <= hole);
            if hole < xmin || hole >= xmax || !ascending {
                return Err(SnapshotError);
            }
            xip.push(hole);
        }
        xip.dedup();
        Ok(Self::new(xmax, xip))
    }
}

/// A transaction number in decimal: digits only, not 0.
fn xact(digits: &str) -> Result<u64, SnapshotError> {
    decimal(digits).filter(|number| *number > 0).ok_or(SnapshotError)
}

/// A number of digits only: `u64::from_str` alone would let a plus sign pass.
pub(super) fn decimal(digits: &str) -> Option<u64> {
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_plain)
}

fn number_bytes(number: u64) -> usize {
    (number | 1).ilog2() as usize / 7 + 1
}

/// A text that isn't a `pg_snapshot`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a pg_snapshot")]
pub struct SnapshotError;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::{super::strategies::*, *};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn a_snapshot_sees_what_is_below_xmax_and_not_in_xip((xmax, xip) in any_holes()) {
            let snapshot = Snapshot::new(xmax, xip.iter().copied().collect());
            for xact in 0..XACTS + 3 {
                prop_assert_eq!(snapshot.sees(xact), xact < xmax && !xip.contains(&xact));
            }
        }

        #[test]
        fn a_snapshot_sees_all_below_its_first_hole(
            snapshot in any_snapshot(), xact in 1..XACTS + 3,
        ) {
            let all = (1..xact).all(|below| snapshot.sees(below));
            prop_assert_eq!(snapshot.sees_all_below(xact), all);
        }

        #[test]
        fn a_snapshot_contains_exactly_its_subsets(one in any_snapshot(), other in any_snapshot()) {
            prop_assert_eq!(one.contains(&other), seen(&one).is_superset(&seen(&other)));
            prop_assert_eq!(one == other, seen(&one) == seen(&other));
        }

        #[test]
        fn advancing_is_the_union_with_the_older_transactions(
            one in any_snapshot(), later in any_snapshot(), end in 0..XACTS + 3,
        ) {
            let union: BTreeSet<u64> = (0..XACTS + 3)
                .filter(|x| one.sees(*x) || (*x < end && later.sees(*x)))
                .collect();
            let advanced = one.advance(&later, end);
            prop_assert_eq!(seen(&advanced), union);
            prop_assert!(advanced.contains(&one));
            let longer = one.xip().len().max(later.xip().len());
            prop_assert!(advanced.xip().len() <= longer);
        }

        #[test]
        fn a_clamped_snapshot_sees_nothing_from_the_first_on(
            snapshot in any_snapshot(), first in 1..XACTS + 3,
        ) {
            let clamped = snapshot.clamp(first);
            let below: BTreeSet<u64> = seen(&snapshot).into_iter().filter(|x| *x < first).collect();
            prop_assert_eq!(seen(&clamped), below);
        }

        #[test]
        fn a_snapshot_survives_its_text((xmax, xip) in any_holes()) {
            let snapshot = Snapshot::new(xmax, xip.iter().copied().collect());
            prop_assert_eq!(snapshot.to_string().parse(), Ok(snapshot.clone()));
            // As Postgres may write it, before it is brought into our representation.
            let list: Vec<String> = xip.iter().map(u64::to_string).collect();
            prop_assert_eq!(format!("1:{xmax}:{}", list.join(",")).parse(), Ok(snapshot));
        }
    }

    #[test]
    fn what_is_no_pg_snapshot_is_refused() {
        let good = ["1:1:", "5:9:", "5:9:5", "5:9:5,8", "5:9:6,6,7"];
        for text in good {
            assert!(text.parse::<Snapshot>().is_ok(), "{text}");
        }
        let bad = [
            "",
            ":",
            "::",
            "5:9",
            "5:9:5:",
            "0:9:",
            "5:0:",
            "9:5:",
            "5:9:4",
            "5:9:9",
            "5:9:7,6",
            "5:9:,",
            "5:9:6,",
            "5:9: 6",
            "+5:9:",
            "5:9:-6",
            "5:18446744073709551616:",
            "a:b:c",
        ];
        for text in bad {
            assert_eq!(text.parse::<Snapshot>(), Err(SnapshotError), "{text}");
        }
    }
}
