//! Cursors and snapshots of every kind, for the tests, and the sets they stand for.

use std::{collections::BTreeSet, sync::Arc};

use proptest::{collection::vec, prelude::*};

use super::{Cursor, RowKey, Snapshot};

pub(super) type Rows = BTreeSet<RowKey>;

pub(super) const XACTS: u64 = 12;
pub(super) const SEQS: i64 = 4;

pub(super) fn row(xact: u64, seq: i64) -> RowKey {
    RowKey { xact, seq }
}

pub(super) fn universe() -> impl Iterator<Item = RowKey> {
    (0..XACTS + 3).flat_map(|xact| (0..=SEQS).map(move |seq| row(xact, seq)))
}

pub(super) fn claimed(cursor: &Cursor) -> Rows {
    universe().filter(|row| cursor.covers(*row)).collect()
}

pub(super) fn visible(snapshot: &Snapshot) -> Rows {
    universe().filter(|row| snapshot.sees(row.xact)).collect()
}

pub(super) fn seen(snapshot: &Snapshot) -> BTreeSet<u64> {
    (0..XACTS + 3).filter(|x| snapshot.sees(*x)).collect()
}

pub(super) fn text(cursor: &Cursor) -> String {
    let mut text = Vec::new();
    assert!(cursor.encode(&mut text));
    String::from_utf8(text).unwrap()
}

pub(super) fn any_holes() -> impl Strategy<Value = (u64, BTreeSet<u64>)> {
    (1..=XACTS, vec(1..XACTS, 0..8))
        .prop_map(|(xmax, xip)| (xmax, xip.into_iter().filter(|x| *x < xmax).collect()))
}

pub(super) fn any_snapshot() -> impl Strategy<Value = Snapshot> {
    any_holes().prop_map(|(xmax, xip)| Snapshot::new(xmax, xip.into_iter().collect()))
}

pub(super) fn any_row() -> impl Strategy<Value = RowKey> {
    (1..=XACTS, 1..=SEQS).prop_map(|(xact, seq)| row(xact, seq))
}

#[derive(Clone, Debug)]
enum Step {
    Record(RowKey),
    Replay(Snapshot, RowKey),
    Rebase(Snapshot),
    Clamp(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => any_row().prop_map(Step::Record),
        4 => (any_snapshot(), any_row()).prop_map(|(read, row)| Step::Replay(read, row)),
        2 => any_snapshot().prop_map(Step::Rebase),
        1 => (0..=XACTS + 1).prop_map(Step::Clamp),
    ]
}

fn take(cursor: &mut Cursor, step: &Step) {
    match step {
        Step::Record(row) => drop(cursor.record(*row)),
        Step::Replay(read, row) => drop(cursor.replay(read, *row)),
        Step::Rebase(watermark) => drop(cursor.rebase(&Arc::new(watermark.clone()))),
        Step::Clamp(first) => cursor.clamp(cursor.epoch + 1, *first),
    }
}

pub(super) fn any_cursor() -> impl Strategy<Value = Cursor> {
    (any_snapshot(), vec(any_step(), 0..12)).prop_map(|(snapshot, steps)| {
        let mut cursor = Cursor::new(7, Arc::new(snapshot));
        for step in &steps {
            take(&mut cursor, step);
        }
        cursor
    })
}

/// The same with numbers of every size, near each other and far apart.
pub(super) fn any_wide_cursor() -> impl Strategy<Value = Cursor> {
    let wide = || {
        prop_oneof![
            any::<u64>(),
            (0..64_u32, 0..200_u64).prop_map(|(power, more)| (1 << power) + more),
            (0..200_u64).prop_map(|less| u64::MAX - less),
        ]
    };
    let seq = || prop_oneof![any::<i64>(), -9..9_i64, Just(i64::MIN), Just(i64::MAX)];
    let holes = prop_oneof![Just(0..1), Just(0..8), Just(0..120)]
        .prop_flat_map(move |size| vec(wide(), size));
    let rows = vec((wide(), vec(seq(), 1..4), any::<bool>()), 0..6);
    (any::<u32>(), wide(), holes, rows).prop_map(|(epoch, xmax, mut xip, rows)| {
        let xmax = xmax.max(1);
        xip.retain(|hole| (1..xmax).contains(hole));
        xip.sort_unstable();
        xip.dedup();
        let mut cursor = Cursor::new(epoch, Arc::new(Snapshot::new(xmax, xip)));
        let nothing = Snapshot::new(1, vec![]);
        for (xact, seqs, part) in rows {
            for seq in seqs {
                let row = row(xact, seq);
                let _ = part && cursor.replay(&nothing, row);
                let _ = part || cursor.record(row);
            }
        }
        cursor
    })
}
