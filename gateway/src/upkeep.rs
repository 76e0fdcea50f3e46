//! Keeps the log as long as it should be, and tells what the triggers complain of.
//!
//! It works after sweeps, so that a database that nobody writes to is not woken.

use std::{collections::HashSet, convert::Infallible, sync::Arc, time::Duration};

use tokio::{sync::Notify, time::Instant};

use crate::{
    cursor::{Cursor, Snapshot},
    error::{Outage, chain},
    health::Health,
    metrics::Metrics,
    postgres::store::{Cause, LogSize, PostgresStore, Unrecorded},
    store::{Store as _, StoreError, Transaction as _},
};

/// The longest time between two rounds while there are sweeps. What is gone in the
/// application is gone from the log that much later.
const MAX_INTERVAL: Duration = Duration::from_secs(3);

/// And the part of the retention time that it is at most.
const PER_RETENTION: u32 = 20;

/// The rest between two batches of one round, for the others who use the database.
const PAUSE: Duration = Duration::from_millis(20);

/// Keeps the log.
pub struct Upkeep {
    /// Where it is.
    pub store: PostgresStore,
    /// Rung after each sweep.
    pub swept: Arc<Notify>,
    /// Learns which tables make no events.
    pub health: Arc<Health>,
    /// The gateway's numbers.
    pub metrics: Arc<Metrics>,
    /// How long events are kept.
    pub retention: Duration,
}

impl Upkeep {
    /// Works, for as long as it is polled.
    pub async fn run(self) -> Infallible {
        let interval = MAX_INTERVAL.min(self.retention / PER_RETENTION);
        let nothing = || Cursor::new(0, Arc::new(Snapshot::empty()));
        let mut erased = nothing();
        let mut told = HashSet::new();
        let mut outage = Outage::default();
        loop {
            self.swept.notified().await;
            let began = Instant::now();
            match self.round(&mut erased, &mut told).await {
                Ok(()) => drop(outage.ends()),
                Err(error) => {
                    let error = chain(&error);
                    if outage.is_new(&error) {
                        tracing::warn!(error, "the event log is not kept");
                    }
                    // After a crash transaction numbers may be given out again.
                    erased = nothing();
                }
            }
            tokio::time::sleep(interval.saturating_sub(began.elapsed())).await;
        }
    }

    async fn round(
        &self,
        erased: &mut Cursor,
        told: &mut HashSet<String>,
    ) -> Result<(), StoreError> {
        let mut transaction = self.store.begin().await?;
        let unrecorded = transaction.unrecorded().await?;
        let LogSize { rows, bytes, oldest_seconds } = transaction.log_size().await?;
        self.metrics.log_size(rows, bytes, oldest_seconds);
        transaction.commit().await?;
        self.tell(unrecorded, told);
        let mut has_more = true;
        while has_more {
            let mut transaction = self.store.begin().await?;
            if !transaction.upkeep_is_ours().await? {
                return transaction.commit().await;
            }
            transaction.checkpoint(self.retention).await?;
            has_more = transaction.erase(erased).await?;
            has_more |= transaction.prune(self.retention).await?;
            let foreign = transaction.remove_foreign().await?;
            has_more |= foreign > 0;
            transaction.commit().await?;
            if foreign > 0 {
                tracing::warn!(events = foreign, "events of another cluster, from a dump, removed");
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Says each in `/readyz`, and in the log when it is new.
    fn tell(&self, unrecorded: Vec<Unrecorded>, told: &mut HashSet<String>) {
        let mut known = HashSet::new();
        for it in unrecorded {
            let sentence = sentence(&it);
            let is_new = !told.contains(&sentence);
            if is_new {
                tracing::error!(table = it.table, "{sentence}");
            }
            if let Cause::Row { more, .. } = it.cause {
                self.metrics.record_problems(more + u64::from(is_new));
            }
            known.insert(sentence);
        }
        let mut said: Vec<String> = known.iter().cloned().collect();
        said.sort_unstable();
        self.health.records(said);
        *told = known;
    }
}

/// What is wrong and what to do.
fn sentence(Unrecorded { table, cause }: &Unrecorded) -> String {
    let (state, remedy) = match cause {
        Cause::Row { sqlstate, message, .. } => {
            let message = message.as_deref().unwrap_or("a value of the row is the cause");
            let remedy = "mend the table or call notify_gateway.watch() again";
            (format!("{message} ({sqlstate})"), remedy.to_owned())
        }
        Cause::NoTrigger => {
            let name = table.replace('\'', "''");
            let call = format!("call notify_gateway.watch('{name}') with what it was given before");
            ("it has no trigger".to_owned(), format!("{call} (notify_gateway.watched has it)"))
        }
        Cause::TriggerOff => {
            let on = format!("ALTER TABLE {table} ENABLE ALWAYS TRIGGER \"00_notify_gateway\"");
            ("its trigger is off".to_owned(), on)
        }
    };
    format!("rows of {table} make no event: {state}; {remedy}")
}
