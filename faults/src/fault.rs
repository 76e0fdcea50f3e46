//! What goes wrong, at random from a seed.

use std::{
    fmt,
    os::unix::process::ExitStatusExt as _,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use clap::ValueEnum;
use nix::sys::signal::Signal;
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    cluster::{GATEWAY_ROLE, Stop, signal},
    ledger::Fault,
    proxy::Proxy,
    stage::Stage,
};

/// How many faults may be under way at once.
const MAX_AT_ONCE: usize = 3;

/// The writer of the long transactions; the others count from 0.
const LONG_TRANSACTION_WRITER: usize = 1000;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Kind {
    /// kill -9 of a gateway, and a start.
    GatewayKill,
    /// SIGTERM to a gateway, and a start.
    GatewayTerm,
    /// SIGSTOP of a gateway for 1 to 8 s.
    GatewayFreeze,
    /// pg_terminate_backend of some of the gateways' connections.
    BackendTerminate,
    /// SIGSTOP of one of the gateways' backends for 1 to 5 s: it is there, and
    /// says nothing.
    BackendFreeze,
    /// Postgres stopped as by `-m fast`, and started.
    DatabaseRestart,
    /// Postgres stopped as by `-m immediate`, and started.
    DatabaseImmediate,
    /// kill -9 of all of Postgres, or of one backend of it.
    DatabaseCrash,
    /// Connections between a gateway and the database end, by FIN or RST.
    DatabaseCut,
    /// Nothing arrives between a gateway and the database, for 1 to 8 s or for
    /// good.
    DatabaseBlackhole,
    /// Everything between a gateway and the database takes longer.
    DatabaseDelay,
    /// kill -9 of NATS, and a start; what it had is gone.
    NatsKill,
    /// SIGSTOP of NATS for 1 to 8 s.
    NatsFreeze,
    /// Connections between a gateway and NATS end, by FIN or RST.
    RelayCut,
    /// Nothing arrives between a gateway and NATS, for 1 to 8 s or for good.
    RelayBlackhole,
    /// Everything between a gateway and NATS takes longer.
    RelayDelay,
    /// Connections between clients and a gateway end, by FIN or RST.
    ClientCut,
    /// Nothing arrives between clients and a gateway.
    ClientBlackhole,
    /// Everything between clients and a gateway takes longer.
    ClientDelay,
    /// Connections of the writers end, so that COMMITs go unanswered.
    WriterCut,
    /// The standby falls behind, the primary dies, the standby is promoted.
    Promotion,
    /// A transaction writes a row and stays open for 5 to 20 s.
    LongTransaction,
    /// The trigger rings never for 0.5 to 5 s.
    RingOff,
}

impl Kind {
    /// Whether it needs a relay.
    pub(crate) fn is_of_relay(self) -> bool {
        let of_network = matches!(self, Self::RelayCut | Self::RelayBlackhole | Self::RelayDelay);
        of_network || matches!(self, Self::NatsKill | Self::NatsFreeze)
    }

    /// Out of this many: those that take the whole database away leave little
    /// to see when they come too often.
    fn weight(self) -> u32 {
        match self {
            // It has times of its own.
            Self::Promotion => 0,
            Self::DatabaseRestart | Self::DatabaseImmediate => 3,
            Self::DatabaseCrash | Self::LongTransaction | Self::RingOff => 5,
            Self::BackendFreeze | Self::WriterCut => 4,
            _ => 8,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.to_possible_value();
        f.write_str(name.as_ref().map_or("unknown", |name| name.get_name()))
    }
}

/// Lets things go wrong until told to stop, then until the last fault is over.
/// A promotion, which leaves little of a short run to see, comes at the times
/// given and not by chance.
///
/// # Errors
///
/// What was broken does not come back: Postgres or a gateway cannot be started.
pub(crate) async fn run(
    stage: Arc<Stage>,
    kinds: Vec<Kind>,
    mut promotions: Vec<Duration>,
    mut rng: fastrand::Rng,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let start = Instant::now();
    let slots = Arc::new(Semaphore::new(MAX_AT_ONCE));
    let mut striking: JoinSet<anyhow::Result<()>> = JoinSet::new();
    while !stop.is_cancelled() {
        let Some(Ok(slot)) = stop.run_until_cancelled(slots.clone().acquire_owned()).await else {
            break;
        };
        let is_due = promotions.first().is_some_and(|&at| at <= start.elapsed());
        let chosen = if is_due { Some(Kind::Promotion) } else { choose(&kinds, &mut rng) };
        promotions.drain(..usize::from(is_due));
        if let Some(kind) = chosen {
            let (stage, rng) = (stage.clone(), rng.fork());
            striking.spawn(async move {
                let struck = stage.strike(kind, rng).await;
                drop(slot);
                struck
            });
        }
        let pause = Duration::from_millis(rng.u64(0..3000));
        if stop.run_until_cancelled(sleep(pause)).await.is_none() {
            break;
        }
        while let Some(struck) = striking.try_join_next() {
            struck??;
        }
    }
    while let Some(struck) = striking.join_next().await {
        struck??;
    }
    Ok(())
}

fn choose(kinds: &[Kind], rng: &mut fastrand::Rng) -> Option<Kind> {
    let total: u32 = kinds.iter().map(|kind| kind.weight()).sum();
    let mut place = if total == 0 { return None } else { rng.u32(0..total) };
    kinds.iter().copied().find(|kind| {
        let is_it = place < kind.weight();
        place = place.saturating_sub(kind.weight());
        is_it
    })
}

/// A fault in the books, which ends there when this is dropped.
struct Entry<'a> {
    stage: &'a Stage,
    place: usize,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        let now = self.stage.ledger.now();
        let mut books = self.stage.ledger.books();
        books.faults[self.place].ended = Some(now);
        self.stage.announcer.fault(self.place, &books.faults[self.place]);
    }
}

impl Stage {
    /// One fault, from its beginning to its end.
    async fn strike(&self, kind: Kind, mut rng: fastrand::Rng) -> anyhow::Result<()> {
        match kind {
            Kind::GatewayKill | Kind::GatewayTerm | Kind::GatewayFreeze => {
                self.strike_gateway(kind, &mut rng).await
            }
            Kind::DatabaseRestart | Kind::DatabaseImmediate | Kind::DatabaseCrash => {
                self.strike_database(kind, &mut rng).await
            }
            Kind::Promotion => self.promote(&mut rng).await,
            Kind::DatabaseCut | Kind::DatabaseBlackhole | Kind::DatabaseDelay => {
                self.strike_network(kind, &self.database_side, &mut rng).await;
                Ok(())
            }
            Kind::NatsKill | Kind::NatsFreeze => self.strike_nats(kind, &mut rng).await,
            Kind::RelayCut | Kind::RelayBlackhole | Kind::RelayDelay => {
                self.strike_network(kind, &self.relay_side, &mut rng).await;
                Ok(())
            }
            Kind::ClientCut | Kind::ClientBlackhole | Kind::ClientDelay => {
                self.strike_network(kind, &self.client_side, &mut rng).await;
                Ok(())
            }
            Kind::WriterCut => {
                let _entry = self.begins(kind, String::new());
                self.writer_side.cut(50, rng.bool());
                Ok(())
            }
            Kind::LongTransaction => {
                let open = Duration::from_millis(rng.u64(5_000..20_000));
                let _entry = self.begins(kind, format!("{open:?}"));
                self.writer(LONG_TRANSACTION_WRITER, rng).hold(open).await;
                Ok(())
            }
            Kind::BackendTerminate | Kind::BackendFreeze | Kind::RingOff => {
                // These need the database, which another fault may have taken
                // away: then they have no effect, which is no failure.
                if self.strike_by_sql(kind, &mut rng).await.is_err() {
                    self.ledger.books().count(format!("fault without effect: {kind}"));
                }
                Ok(())
            }
        }
    }

    async fn strike_gateway(&self, kind: Kind, rng: &mut fastrand::Rng) -> anyhow::Result<()> {
        let mut gateway = self.gateways[rng.usize(0..self.gateways.len())].lock().await;
        let _entry = self.begins(kind, gateway.name().to_owned());
        if kind == Kind::GatewayFreeze {
            gateway.send(Signal::SIGSTOP);
            sleep(Duration::from_millis(rng.u64(1000..8000))).await;
            gateway.send(Signal::SIGCONT);
            return Ok(());
        }
        if kind == Kind::GatewayKill {
            gateway.kill().await?;
        } else {
            // Until its handler is there a process ends by the signal itself,
            // and nobody is on it yet to be said goodbye to.
            let is_up = gateway.answers().await;
            let status = gateway.terminate().await?;
            let by_signal = status.and_then(|status| status.signal());
            if !is_up && by_signal == Some(Signal::SIGTERM as i32) {
                self.ledger.books().count("SIGTERM to a gateway that did not answer yet");
            } else if !status.is_some_and(|status| status.success()) {
                let how = status.map_or("not within 10 s".to_owned(), |status| status.to_string());
                let problem = format!("gateway {} ended on SIGTERM: {how}", gateway.name());
                self.ledger.books().problems.push(problem);
            }
        }
        sleep(Duration::from_millis(rng.u64(0..2000))).await;
        gateway.start()
    }

    async fn strike_nats(&self, kind: Kind, rng: &mut fastrand::Rng) -> anyhow::Result<()> {
        let Some(nats) = &self.nats else { return Ok(()) };
        let mut nats = nats.lock().await;
        let _entry = self.begins(kind, String::new());
        if kind == Kind::NatsFreeze {
            nats.send(Signal::SIGSTOP);
            sleep(Duration::from_millis(rng.u64(1000..8000))).await;
            nats.send(Signal::SIGCONT);
            return Ok(());
        }
        nats.kill().await?;
        sleep(Duration::from_millis(rng.u64(0..6000))).await;
        nats.resume().await
    }

    async fn strike_database(&self, kind: Kind, rng: &mut fastrand::Rng) -> anyhow::Result<()> {
        let mut cluster = self.cluster.lock().await;
        let how = match kind {
            Kind::DatabaseRestart => Stop::Fast,
            Kind::DatabaseImmediate => Stop::Immediate,
            _ if rng.u8(0..3) == 0 => Stop::BackendCrash,
            _ => Stop::Crash,
        };
        let next = self.next_transaction().await;
        let _entry = self.begins(kind, format!("{how:?}"));
        cluster.stop(how).await?;
        if how == Stop::BackendCrash {
            return Ok(());
        }
        sleep(Duration::from_millis(rng.u64(0..3000))).await;
        cluster.resume().await?;
        self.compare_transactions(next).await;
        Ok(())
    }

    /// Whether numbers are used again shows whether the fault was the one that
    /// cursors must survive.
    async fn compare_transactions(&self, before: Option<u64>) {
        let after = self.next_transaction().await;
        if let (Some(before), Some(after)) = (before, after)
            && after < before
        {
            self.ledger.books().count("transaction numbers taken back");
        }
    }

    async fn next_transaction(&self) -> Option<u64> {
        let client = self.address.connect().await.ok()?;
        let sql = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text";
        client.query_one(sql, &[]).await.ok()?.get::<_, &str>(0).parse().ok()
    }

    async fn promote(&self, rng: &mut fastrand::Rng) -> anyhow::Result<()> {
        let mut cluster = self.cluster.lock().await;
        // After a restart of the primary the standby needs a moment.
        let deadline = Instant::now() + Duration::from_secs(15);
        while !cluster.is_replicated().await {
            if Instant::now() > deadline {
                self.ledger.books().count("fault without effect: promotion");
                return Ok(());
            }
            sleep(Duration::from_millis(50)).await;
        }
        let lag = Duration::from_millis(if rng.bool() { rng.u64(0..3000) } else { 0 });
        let entry = self.begins(Kind::Promotion, format!("the standby {lag:?} behind"));
        cluster.fail_over(lag).await?;
        for proxy in self.database_side.iter().chain([&self.writer_side]) {
            proxy.repoint(self.address.port());
        }
        drop(entry);
        if self.promotions.fetch_sub(1, Ordering::Relaxed) > 1 {
            cluster.build_standby().await?;
        }
        Ok(())
    }

    async fn strike_network(&self, kind: Kind, side: &[Proxy], rng: &mut fastrand::Rng) {
        let place = rng.usize(0..side.len());
        let proxy = &side[place];
        let lasts = Duration::from_millis(rng.u64(1000..8000));
        let _entry = match kind {
            Kind::DatabaseCut | Kind::RelayCut | Kind::ClientCut => {
                let (percent, reset) = (rng.choice([20, 50, 100]).unwrap_or(100), rng.bool());
                proxy.cut(percent, reset);
                let how = if reset { "RST" } else { "FIN" };
                drop(self.begins(kind, format!("road {place}, {percent} %, by {how}")));
                return;
            }
            Kind::DatabaseDelay | Kind::RelayDelay | Kind::ClientDelay => {
                let delay = Duration::from_millis(rng.u64(20..1000));
                proxy.delay(delay);
                self.begins(kind, format!("road {place}, {delay:?}"))
            }
            _ if rng.bool() => {
                proxy.stall();
                self.begins(kind, format!("road {place}, arrives later"))
            }
            _ => {
                let (up, down) = rng
                    .choice([(true, true), (true, false), (false, true)])
                    .unwrap_or((true, true));
                proxy.swallow(up, down);
                let direction = format!("to server {up}, to client {down}");
                self.begins(kind, format!("road {place}, never arrives: {direction}"))
            }
        };
        sleep(lasts).await;
        proxy.heal();
    }

    async fn strike_by_sql(&self, kind: Kind, rng: &mut fastrand::Rng) -> anyhow::Result<()> {
        let client = self.address.connect().await?;
        client.batch_execute("SET lock_timeout = '2s'").await?;
        match kind {
            Kind::BackendTerminate => {
                // The LISTEN connection has seldom said anything since.
                let which = rng.choice(["true", "random() < 0.4", "query ILIKE '%LISTEN%'"]);
                let which = which.unwrap_or("true");
                let _entry = self.begins(kind, format!("those with {which}"));
                let sql = format!(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                     WHERE usename = '{GATEWAY_ROLE}' AND {which}"
                );
                client.batch_execute(&sql).await?;
            }
            Kind::BackendFreeze => {
                let sql = format!(
                    "SELECT pid FROM pg_stat_activity WHERE usename = '{GATEWAY_ROLE}' \
                     ORDER BY random() LIMIT 1"
                );
                let Some(row) = client.query_opt(&sql, &[]).await? else { return Ok(()) };
                let pid = u32::try_from(row.get::<_, i32>(0))?;
                let _entry = self.begins(kind, format!("pid {pid}"));
                signal(pid, Signal::SIGSTOP);
                sleep(Duration::from_millis(rng.u64(1000..5000))).await;
                signal(pid, Signal::SIGCONT);
            }
            _ => {
                client.batch_execute(&ring("never")).await?;
                let _entry = self.begins(kind, String::new());
                sleep(Duration::from_millis(rng.u64(500..5000))).await;
                self.ring_on().await;
            }
        }
        Ok(())
    }

    /// Waits for the lock, and for the database where that is away.
    async fn ring_on(&self) {
        let sql = ring("row");
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            if let Ok(client) = self.address.connect().await
                && client.batch_execute(&sql).await.is_ok()
            {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
        self.ledger.books().problems.push("the trigger could not be made to ring again".into());
    }

    fn begins(&self, kind: Kind, detail: String) -> Entry<'_> {
        let began = self.ledger.now();
        let mut books = self.ledger.books();
        let place = books.faults.len();
        books.faults.push(Fault { kind, detail, began, ended: None });
        self.announcer.fault(place, &books.faults[place]);
        Entry { stage: self, place }
    }
}

/// Has the trigger ring so, and leaves the rest of what is watched as it is.
fn ring(how: &str) -> String {
    format!(
        "SELECT notify_gateway.watch('notifications', w.user_id, w.row_id, w.event, w.data, \
                                     w.condition, '{how}') \
         FROM notify_gateway.watch_entry w WHERE w.table_name = 'notifications'"
    )
}
