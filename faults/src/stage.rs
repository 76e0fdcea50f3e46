//! All that takes part, set up in order: database, roads, gateways.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::{Arc, atomic::AtomicU32},
    time::Duration,
};

use anyhow::Context as _;
use tokio::{sync::Mutex, time::sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    announcer::Announcer,
    changer,
    cleanup::Cleanup,
    cluster::{Address, Cluster, GATEWAY_ROLE},
    gateway::{Binary, Gateway, SECRET},
    ledger::Ledger,
    nats::Nats,
    proxy::Proxy,
    verdict::Truth,
    writer::Writer,
};

/// Which gateways there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cast {
    /// Two that listen: a client that changes between two of them finds whatever a third
    /// would show.
    Listeners,
    /// One that listens, one that stands by, three that hear it over NATS.
    Relay,
}

impl Cast {
    /// Their names and the roles of those with a relay.
    fn gateways(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Listeners => &[("a", ""), ("b", "")],
            Self::Relay => &[
                ("source-1", "source"),
                ("source-2", "source"),
                ("a", "edge"),
                ("b", "edge"),
                ("c", "edge"),
            ],
        }
    }
}

/// A gateway beside a database that is up.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// All that can be broken, and where everybody is to connect.
pub(crate) struct Stage {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) cluster: Mutex<Cluster>,
    pub(crate) address: Address,
    pub(crate) gateways: Vec<Mutex<Gateway>>,
    /// Between each gateway and the database.
    pub(crate) database_side: Vec<Proxy>,
    /// Between each gateway and NATS, if there is a relay.
    pub(crate) relay_side: Vec<Proxy>,
    pub(crate) nats: Option<Mutex<Nats>>,
    /// Between the clients and each gateway that has streams.
    pub(crate) client_side: Vec<Proxy>,
    /// Between the writers and the database.
    pub(crate) writer_side: Proxy,
    /// How many promotions are still to come.
    pub(crate) promotions: AtomicU32,
    pub(crate) announcer: Announcer,
    /// Resident memory by gateway.
    pub(crate) memory: parking_lot::Mutex<BTreeMap<String, Memory>>,
    /// Last: it ends what is left.
    _cleanup: Arc<Cleanup>,
}

/// Resident memory of one gateway over the run, its restarts included, in KiB.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) start: u64,
    pub(crate) max: u64,
    pub(crate) end: u64,
}

impl Stage {
    /// Sets everything up and waits until all gateways are ready.
    pub(crate) async fn set(
        cast: Cast,
        binary: &Binary,
        directory: &Path,
        ledger: Arc<Ledger>,
        promotions: u32,
        cleanup: Arc<Cleanup>,
        rng: &mut fastrand::Rng,
    ) -> anyhow::Result<Self> {
        // Half of the runs: what is not flushed by a commit stays in the WAL
        // buffers, and a crash really takes transaction numbers back.
        let is_lazy = rng.bool();
        let settings: &[&str] = if is_lazy { &["wal_writer_delay=10s"] } else { &[] };
        ledger.books().count(format!("wal_writer_delay {}", if is_lazy { "10s" } else { "200ms" }));
        let mut cluster = Cluster::start(directory, settings, cleanup.clone()).await?;
        let address = cluster.address();
        prepare(&address, &binary.schema().await?).await?;
        if promotions > 0 {
            cluster.build_standby().await.context("the standby")?;
        }
        let writer_side = Proxy::start(address.port(), false, rng.fork()).await?;
        let (mut gateways, mut database_side, mut client_side) = (vec![], vec![], vec![]);
        let (mut nats, mut relay_side) = (None, vec![]);
        if cast == Cast::Relay {
            nats = Some(Nats::start(directory, cleanup.clone()).await?);
        }
        for &(name, role) in cast.gateways() {
            let mut relay = None;
            if let Some(nats) = &nats {
                let road = Proxy::start(nats.port(), false, rng.fork()).await?;
                relay = Some((road.port(), role));
                relay_side.push(road);
            }
            let road = Proxy::start(address.port(), true, rng.fork()).await?;
            let database = (road.port(), address.password());
            let mut gateway =
                Gateway::new(name, binary.clone(), database, relay, directory, cleanup.clone())?;
            gateway.start()?;
            if role != "source" {
                client_side.push(Proxy::start(gateway.port(), false, rng.fork()).await?);
            }
            gateway.ready(READY_TIMEOUT).await?;
            gateways.push(Mutex::new(gateway));
            database_side.push(road);
        }
        Ok(Self {
            ledger,
            cluster: Mutex::new(cluster),
            address,
            gateways,
            database_side,
            relay_side,
            nats: nats.map(Mutex::new),
            client_side,
            writer_side,
            promotions: AtomicU32::new(promotions),
            announcer: Announcer::default(),
            memory: parking_lot::Mutex::default(),
            _cleanup: cleanup,
        })
    }

    /// The same, with somebody who tells of it; he begins with where everything is.
    pub(crate) fn told_by(mut self, announcer: Announcer) -> Self {
        let streams: Vec<String> = self
            .client_side
            .iter()
            .map(|proxy| format!("http://127.0.0.1:{}/api/notifications/stream", proxy.port()))
            .collect();
        let database = self.address.url(self.writer_side.port());
        announcer.stage(&streams, &database, SECRET);
        self.announcer = announcer;
        self
    }

    /// A writer that has not begun.
    pub(crate) fn writer(&self, number: usize, rng: fastrand::Rng) -> Writer {
        Writer {
            number,
            port: self.writer_side.port(),
            password: self.address.password().to_owned(),
            ledger: self.ledger.clone(),
            rng,
            rows_per_second: 10.0,
            stop: CancellationToken::new(),
        }
    }

    /// Looks after the gateways: one that ends without being asked is a finding,
    /// and is started again. Runs until dropped.
    pub(crate) async fn watch(&self) {
        loop {
            sleep(Duration::from_millis(500)).await;
            for gateway in &self.gateways {
                // Held: it is just being killed or started, on purpose.
                let Ok(mut gateway) = gateway.try_lock() else { continue };
                if let Some(status) = gateway.died() {
                    let words = gateway.last_words();
                    let problem = format!("gateway {} died: {status}\n{words}", gateway.name());
                    self.ledger.books().problems.push(problem);
                    if gateway.start().is_err() {
                        return;
                    }
                }
                self.weigh(&gateway);
            }
        }
    }

    fn weigh(&self, gateway: &Gateway) {
        let Some(now) = gateway.memory_kib() else { return };
        let mut memory = self.memory.lock();
        let memory = memory.entry(gateway.name().to_owned()).or_default();
        if memory.start == 0 {
            memory.start = now;
        }
        memory.max = memory.max.max(now);
        memory.end = now;
    }

    /// Opens all roads. The faults are over by now, and what they took away is
    /// back, but for connections that have lost bytes: these stay silent.
    pub(crate) fn heal(&self) {
        for proxy in self.database_side.iter().chain(&self.client_side).chain(&self.relay_side) {
            proxy.heal();
        }
    }

    /// What is in the table, once no writer's transaction is under way.
    pub(crate) async fn truth(&self) -> anyhow::Result<Truth> {
        let client = self.address.connect().await?;
        // A COMMIT may still be on its way through a proxy, or be waiting for
        // a lock; a transaction whose client is gone may not know it yet.
        let busy = "SELECT count(*), count(pg_terminate_backend(pid)) FILTER (WHERE $1) \
                    FROM pg_stat_activity WHERE xact_start IS NOT NULL \
                    AND usename = 'postgres' AND pid <> pg_backend_pid() \
                    AND backend_type = 'client backend'";
        for round in 0..100 {
            if client.query_one(busy, &[&(round >= 50)]).await?.get::<_, i64>(0) == 0 {
                break;
            }
            sleep(Duration::from_millis(100)).await;
        }
        self.ledger.books().touched = Some(self.ledger.now());
        changer::touch(&client).await?;
        let states = "SELECT id, user_id, title FROM notifications WHERE title LIKE 'state %'";
        let states = client.query(states, &[]).await?;
        let states = states.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect();
        let rows = "SELECT id, xact::text FROM notifications WHERE title NOT LIKE 'state %'";
        let rows = client.query(rows, &[]).await?;
        let rows = rows
            .iter()
            .map(|row| Ok((row.get::<_, Uuid>(0), row.get::<_, &str>(1).parse::<u64>()?)))
            .collect::<anyhow::Result<HashMap<_, _>>>()?;
        // The first timeline is the one of initdb; each promotion begins one.
        let epochs = "SELECT timeline, min(first_xact::text::numeric) FILTER (WHERE NOT is_restart)::text \
                      FROM epochs GROUP BY timeline";
        let mut clamps = BTreeMap::new();
        for row in client.query(epochs, &[]).await? {
            let timeline = usize::from_str_radix(row.get(0), 16)?;
            let first = row.get::<_, Option<&str>>(1).and_then(|first| first.parse().ok());
            clamps.insert(timeline, first);
        }
        Ok(Truth { rows, states, clamps })
    }

    /// Lines of panics in the gateways' logs.
    pub(crate) async fn panics(&self) -> Vec<String> {
        let mut panics = Vec::new();
        for gateway in &self.gateways {
            panics.extend(gateway.lock().await.panics());
        }
        panics
    }

    /// Ends everything.
    pub(crate) async fn clear(&self) {
        for gateway in &self.gateways {
            // It goes with us all the same.
            let _killed = gateway.lock().await.kill().await;
        }
        if let Some(nats) = &self.nats {
            let _killed = nats.lock().await.kill().await;
        }
        self.cluster.lock().await.end().await;
    }
}

/// The schema as the gateway carries it, and a role that may do what that
/// grants, and nothing else.
async fn prepare(address: &Address, schema: &str) -> anyhow::Result<()> {
    let client = address.connect().await?;
    client.batch_execute(schema).await.context("the schema")?;
    // Columns of the application: one for our books, since the log is pruned, and one
    // that has nulls.
    let columns = "ALTER TABLE notifications ALTER message DROP NOT NULL, \
                   ADD COLUMN xact xid8 NOT NULL DEFAULT pg_current_xact_id()";
    client.batch_execute(columns).await.context("the table's columns")?;
    // The gateways forget old ones.
    let epochs = "CREATE TABLE epochs (LIKE notify_gateway.epoch); \
                  CREATE FUNCTION keep_epoch() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER \
                  AS 'BEGIN INSERT INTO public.epochs SELECT NEW.*; RETURN NULL; END'; \
                  CREATE TRIGGER keep AFTER INSERT ON notify_gateway.epoch \
                  FOR EACH ROW EXECUTE FUNCTION keep_epoch()";
    client.batch_execute(epochs).await.context("the book of epochs")?;
    let password = address.password();
    let role =
        format!("CREATE ROLE {GATEWAY_ROLE} LOGIN PASSWORD '{password}' IN ROLE notify_gateway");
    client.batch_execute(&role).await.context("the gateways' role")
}
