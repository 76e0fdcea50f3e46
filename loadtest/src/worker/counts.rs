//! What a worker counts and measures.

use std::collections::BTreeMap;

use crate::{
    histogram::Latencies,
    ledger::Ledger,
    protocol::{Tick, WorkerLatencies},
    verdict::{self, Account},
};

/// Kinds of ends told apart; a server's own words must not fill the memory.
const MAX_ENDS: usize = 50;

#[derive(Default)]
pub(super) struct Counts {
    pub(super) open: u64,
    pub(super) pending: u64,
    pub(super) bytes: u64,
    pub(super) other_events: u64,
    pub(super) deliveries: u64,
    opened_total: u64,
    ends: BTreeMap<String, u64>,
    lag_max_ns: u64,
    window: Latencies,
    connect: Latencies,
    first_byte: Latencies,
    reconnect: Latencies,
    catch_up: Latencies,
    intended: Latencies,
    sent: Latencies,
    acknowledged: Latencies,
    lag: Latencies,
}

impl Counts {
    /// A stream has opened, `connect_ns` after its SYN.
    pub(super) fn opened(&mut self, connect_ns: u64, first_byte_ns: u64, is_again: bool) {
        self.open += 1;
        self.opened_total += 1;
        self.pending = self.pending.saturating_sub(1);
        if is_again {
            self.reconnect.record(connect_ns);
        } else {
            self.connect.record(connect_ns);
            self.first_byte.record(first_byte_ns);
        }
    }

    /// A row has come, so long after its intended moment.
    pub(super) fn delivered(&mut self, ns: u64) {
        self.window.record(ns);
        self.intended.record(ns);
    }

    /// A connection ended that should not have.
    pub(super) fn end(&mut self, why: &str) {
        if let Some(count) = self.ends.get_mut(why) {
            *count += 1;
        } else if self.ends.len() < MAX_ENDS {
            self.ends.insert(why.to_owned(), 1);
        }
    }

    /// The loop was so late.
    pub(super) fn lag(&mut self, ns: u64) {
        self.lag.record(ns);
        self.lag_max_ns = self.lag_max_ns.max(ns);
    }

    /// The latencies that only the ledger knows.
    pub(super) fn settle(&mut self, account: &Account, ledger: &Ledger) {
        for received in &account.received {
            let Some(tx) = ledger.transaction(received.row.transaction) else { continue };
            self.sent.record(received.at_ns.saturating_sub(tx.sent_ns));
            if let Some(acknowledged_ns) = tx.acknowledged_ns {
                // A row may come before its writer has heard that it is there.
                self.acknowledged.record(received.at_ns.saturating_sub(acknowledged_ns));
            }
        }
        verdict::catch_ups(account, ledger).into_iter().for_each(|ns| self.catch_up.record(ns));
    }

    /// The state for the parent; the window begins anew.
    pub(super) fn tick(&mut self, cpu_ns: u64) -> Tick {
        let tick = Tick {
            open: self.open,
            pending: self.pending,
            opened_total: self.opened_total,
            deliveries: self.deliveries,
            other_events: self.other_events,
            bytes: self.bytes,
            cpu_ns,
            ends: self.ends.clone(),
            window: self.window.buckets(),
            lag_max_ns: self.lag_max_ns,
        };
        if !self.window.is_empty() {
            self.window.clear();
        }
        self.lag_max_ns = 0;
        tick
    }

    pub(super) fn latencies(&self) -> WorkerLatencies {
        WorkerLatencies {
            connect: self.connect.buckets(),
            first_byte: self.first_byte.buckets(),
            reconnect: self.reconnect.buckets(),
            catch_up: self.catch_up.buckets(),
            intended: self.intended.buckets(),
            sent: self.sent.buckets(),
            acknowledged: self.acknowledged.buckets(),
            lag: self.lag.buckets(),
        }
    }
}
