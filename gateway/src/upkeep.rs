//! Keeps the log as long as it should be, and tells what the triggers complain of.
//!
//! It works after sweeps, so that a database that nobody writes to is not woken.

use std::{collections::HashSet, convert::Infallible, sync::Arc, time::Duration};

use tokio::{sync::Notify, time::Instant};

use crate::{
    cursor::{Cursor, Snapshot},
    error::chain,
    health::Health,
    metrics::Metrics,
    postgres::store::{LogSize, PostgresStore, RecordProblem},
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
        let mut is_failing = false;
        loop {
            let began = Instant::now();
            match self.round(&mut erased, &mut told).await {
                Ok(()) => is_failing = false,
                Err(error) => {
                    if !is_failing {
                        tracing::warn!(error = chain(&error), "the event log is not kept");
                    }
                    is_failing = true;
                    // After a crash transaction numbers may be given out again.
                    erased = nothing();
                }
            }
            tokio::time::sleep(interval.saturating_sub(began.elapsed())).await;
            self.swept.notified().await;
        }
    }

    async fn round(
        &self,
        erased: &mut Cursor,
        told: &mut HashSet<(String, String)>,
    ) -> Result<(), StoreError> {
        let mut transaction = self.store.begin().await?;
        let problems = transaction.problems().await?;
        let silent = transaction.silent_tables().await?;
        let LogSize { rows, bytes, oldest_seconds } = transaction.log_size().await?;
        self.metrics.log_size(rows, bytes, oldest_seconds);
        transaction.commit().await?;
        self.tell(problems, silent, told);
        let mut has_more = true;
        while has_more {
            let mut transaction = self.store.begin().await?;
            if !transaction.upkeep_is_ours().await? {
                return transaction.commit().await;
            }
            transaction.checkpoint(self.retention).await?;
            has_more = transaction.erase(erased).await?;
            has_more |= transaction.prune(self.retention).await?;
            transaction.commit().await?;
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    fn tell(
        &self,
        problems: Vec<RecordProblem>,
        silent: Vec<(String, String)>,
        told: &mut HashSet<(String, String)>,
    ) {
        let said = problems.iter().map(|problem| {
            let RecordProblem { table, sqlstate, message, .. } = problem;
            let message = message.as_deref().unwrap_or("a value of the row is the cause");
            format!(
                "rows of {table} make no event: {message} ({sqlstate}); mend the table or call \
                 notify_gateway.watch() again"
            )
        });
        let triggers = silent.iter().map(|(table, trigger)| {
            let (state, remedy) = if trigger == "no trigger" {
                let name = table.replace('\'', "''");
                let call =
                    format!("call notify_gateway.watch('{name}') with what it was given before");
                ("it has no trigger", format!("{call} (notify_gateway.watched has it)"))
            } else {
                let on = format!("ALTER TABLE {table} ENABLE ALWAYS TRIGGER");
                ("its trigger is off", format!("{on} \"00_notify_gateway\""))
            };
            format!("rows of {table} make no event: {state}; {remedy}")
        });
        self.health.records(said.chain(triggers).collect());
        let mut known = HashSet::new();
        for key in silent {
            if !told.contains(&key) {
                let (table, trigger) = &key;
                tracing::error!(table, trigger, "a watched table has no trigger that fires");
            }
            known.insert(key);
        }
        for RecordProblem { table, sqlstate, message, count } in problems {
            let key = (table, sqlstate);
            if !told.contains(&key) && !known.contains(&key) {
                let (table, sqlstate) = &key;
                let message = message.unwrap_or_default();
                tracing::error!(table, sqlstate, message, "rows of a watched table make no event");
                self.metrics.record_problems(count + 1);
            } else {
                self.metrics.record_problems(count);
            }
            known.insert(key);
        }
        *told = known;
    }
}
