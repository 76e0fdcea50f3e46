//! The parts of a gateway and the tasks that run between them.

use std::sync::Arc;

use tokio::sync::{Notify, oneshot};
use uuid::Uuid;

use crate::{
    auth::{Fetched, Verifier},
    config::{Config, RelayConfig, RelayRole},
    dispatch::{Dispatch, Dispatcher},
    ends::RecentEnds,
    error::{Outage, chain},
    health::Health,
    http::{Admin, Routes},
    hub::Hub,
    listen::ListenError,
    listener::{Listener, Restart},
    looks::{Freshness, Looks},
    metrics::Metrics,
    outcome::StreamEnd,
    postgres::{
        connector::Connector,
        lead::PostgresLeadership,
        listen::PostgresListen,
        store::{Channels, PostgresStore},
    },
    quiet::Load,
    relay::{Edge, Source, nats::NatsRelay},
    replay::{Replayer, Replays},
    revocation::Revocations,
    revocation_watch::RevocationWatch,
    stream::{ENOUGH, StreamContext},
    supervisor::Supervisor,
    sweep::Sweeper,
    upkeep::Upkeep,
};

/// Queries of replays that may be on their way at once. A few keep a database
/// busy; more only wait for each other.
const MAX_CONCURRENT_REPLAYS: usize = 4;

/// Connections of the pool that are not the replays': one each for the sweep, the
/// revocations and the upkeep of the log.
const RESERVED_CONNECTIONS: usize = 3;

/// And of a gateway with a relay two more: it may sweep for itself and for others, and look for a
/// pooler.
const RESERVED_FOR_RELAY: usize = 2;

/// What is there from the start and may be exchanged or asked for from outside.
pub(super) struct Parts {
    pub(super) hub: Arc<Hub>,
    pub(super) health: Arc<Health>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) connector: Arc<Connector>,
    /// For the connection that listens, which may not go through a pooler.
    pub(super) listen_connector: Arc<Connector>,
    pub(super) verifier: Arc<Verifier>,
}

/// All parts of a gateway but its ports.
pub(super) struct Core {
    parts: Parts,
    store: PostgresStore,
    revocations: Arc<Revocations>,
    replays: Arc<Replays>,
    streams: Arc<StreamContext>,
    /// The sweeps, for those who wait for one.
    sweeps: Arc<Looks>,
    /// The looks at the revocations, likewise.
    revocation_looks: Arc<Looks>,
    /// Tells this gateway's probes from others'.
    nonce: String,
    /// Others are not woken by this gateway's probes.
    probe_channel: String,
    relay: Option<Arc<NatsRelay>>,
}

impl Core {
    pub(super) fn new(
        config: &Config,
        parts: Parts,
        relay: Option<Arc<NatsRelay>>,
    ) -> Result<Self, deadpool_postgres::BuildError> {
        let nonce = Uuid::new_v4().simple().to_string();
        let probe_channel = format!("notify_gateway_{nonce}");
        let channels = Channels { events: config.channel.clone(), probes: probe_channel.clone() };
        let store = PostgresStore::new(Arc::clone(&parts.connector), config.pool_size, channels)?;
        let replays = Arc::new(Replays::default());
        let streams = Arc::new(StreamContext {
            metrics: Arc::clone(&parts.metrics),
            ends: RecentEnds::default(),
            replays: Arc::clone(&replays),
            replay_limit: config.replay_limit,
            heartbeat: config.heartbeat,
            enough: ENOUGH,
            retry: config.retry,
            drain: config.drain,
            max_age: config.max_stream_age,
        });
        Ok(Self {
            parts,
            store,
            revocations: Arc::default(),
            replays,
            streams,
            sweeps: Arc::default(),
            revocation_looks: Arc::default(),
            nonce,
            probe_channel,
            relay,
        })
    }

    /// Starts what lives as long as the gateway. The receiver gets the refusal of
    /// a database that waiting does not mend.
    pub(super) fn spawn(
        &self,
        config: &Config,
        workers: &mut Supervisor,
    ) -> oneshot::Receiver<ListenError> {
        let Parts { hub, health, metrics, verifier, .. } = &self.parts;
        let swept = Arc::new(Notify::new());
        let upkeep = Upkeep {
            store: self.store.clone(),
            swept: Arc::clone(&swept),
            health: Arc::clone(health),
            metrics: Arc::clone(metrics),
            retention: config.retention,
        };
        let role = config.relay.as_ref().map(|relay| relay.role);
        if role.is_none_or(RelayRole::is_source) {
            workers.spawn("upkeep", upkeep.run());
        }

        let watch = RevocationWatch {
            store: self.store.clone(),
            revocations: Arc::clone(&self.revocations),
            hub: Arc::clone(hub),
            looks: Arc::clone(&self.revocation_looks),
            health: Arc::clone(health),
            sweep_interval: config.sweep_interval,
        };
        workers.spawn("revocations", watch.run());

        let relayed = if config.relay.is_some() { RESERVED_FOR_RELAY } else { 0 };
        let reserved = RESERVED_CONNECTIONS + relayed;
        let for_replays = config.pool_size.saturating_sub(reserved).max(1);
        let replayer = Replayer {
            replays: Arc::clone(&self.replays),
            store: self.store.clone(),
            hub: Arc::clone(hub),
            health: Arc::clone(health),
            metrics: Arc::clone(metrics),
            concurrency: for_replays.min(MAX_CONCURRENT_REPLAYS),
        };
        workers.spawn("replays", replayer.run());
        metrics.relay_role(
            role.is_some_and(RelayRole::is_edge),
            role.is_some_and(RelayRole::is_source),
        );

        if let Some(key_set) = verifier.key_set().cloned() {
            if !verifier.has_keys() {
                health.keys_are_missing("starting: no key has been fetched yet".to_owned());
            }
            let (health, metrics) = (Arc::clone(health), Arc::clone(metrics));
            let mut outage = Outage::default();
            workers.spawn("key set", async move {
                key_set.run(|outcome| note_keys(outcome, &mut outage, &health, &metrics)).await;
            });
        }

        match (&config.relay, &self.relay) {
            (Some(relay_config), Some(relay)) => {
                if relay_config.role.is_edge() {
                    workers.spawn("edge", self.edge(config, relay).run());
                }
                if relay_config.role.is_source() {
                    let source = self.source(config, relay_config, relay, swept);
                    workers.spawn("source", source.run());
                }
                // What a source meets is never final: another may do better.
                oneshot::channel().1
            }
            _ => self.spawn_direct(config, workers, swept),
        }
    }

    /// Listens and sweeps for this gateway's own streams.
    fn spawn_direct(
        &self,
        config: &Config,
        workers: &mut Supervisor,
        swept: Arc<Notify>,
    ) -> oneshot::Receiver<ListenError> {
        let Parts { hub, health, metrics, .. } = &self.parts;
        let restart = Arc::new(Restart::default());
        let load = Arc::new(Load::new(config.quiet, config.quiet_above));
        let dispatcher = Dispatcher::new(Arc::clone(hub), Arc::clone(metrics), Arc::clone(&load))
            .trust_payloads(config.trust_payloads);
        let dispatch = Arc::new(Dispatch::new(dispatcher));
        let sweeper = Sweeper {
            store: self.store.clone(),
            audience: Arc::clone(hub),
            dispatch: Arc::clone(&dispatch),
            looks: Arc::clone(&self.sweeps),
            health: Arc::clone(health),
            metrics: Arc::clone(metrics),
            swept,
            restart: Arc::clone(&restart),
            interval: config.sweep_interval,
            quiet_interval: config.quiet_sweep_interval,
            load,
            nonce: Some(self.nonce.clone()),
        };
        workers.spawn("sweep", sweeper.run());
        let listener = Listener {
            listen: self.listen(config),
            restart,
            dispatch,
            health: Arc::clone(health),
            metrics: Arc::clone(metrics),
        };
        let (refused, refusal) = oneshot::channel();
        workers.spawn("listener", async move {
            let Err(error) = listener.run().await;
            // Told apart from a task that failed: this is for the operator to mend.
            let _stopping = refused.send(error);
            std::future::pending::<()>().await;
        });
        refusal
    }

    fn listen(&self, config: &Config) -> PostgresListen {
        PostgresListen {
            connector: Arc::clone(&self.parts.listen_connector),
            store: self.store.clone(),
            channel: config.channel.clone(),
            probe_channel: self.probe_channel.clone(),
        }
    }

    fn edge(&self, config: &Config, relay: &Arc<NatsRelay>) -> Edge<NatsRelay, PostgresStore> {
        let Parts { hub, health, metrics, .. } = &self.parts;
        Edge {
            relay: Arc::clone(relay),
            store: self.store.clone(),
            hub: Arc::clone(hub),
            looks: Arc::clone(&self.sweeps),
            health: Arc::clone(health),
            metrics: Arc::clone(metrics),
            interval: config.sweep_interval,
        }
    }

    fn source(
        &self,
        config: &Config,
        relay_config: &RelayConfig,
        relay: &Arc<NatsRelay>,
        swept: Arc<Notify>,
    ) -> Source<NatsRelay, PostgresLeadership, PostgresListen, PostgresStore> {
        let Parts { health, metrics, listen_connector, .. } = &self.parts;
        Source {
            relay: Arc::clone(relay),
            leadership: PostgresLeadership {
                connector: Arc::clone(listen_connector),
                store: self.store.clone(),
                stream: relay_config.stream.clone(),
            },
            listen: Arc::new(self.listen(config)),
            store: self.store.clone(),
            health: Arc::clone(health),
            metrics: Arc::clone(metrics),
            load: Arc::new(Load::new(config.quiet, config.quiet_above)),
            trust_payloads: config.trust_payloads,
            swept,
            interval: config.sweep_interval,
            quiet_interval: config.quiet_sweep_interval,
            nonce: self.nonce.clone(),
        }
    }

    /// The routes of the public port.
    pub(super) fn routes(&self, config: &Config) -> Routes {
        let Parts { hub, health, metrics, verifier, .. } = &self.parts;
        Routes::new(
            config,
            Arc::clone(verifier),
            Arc::clone(&self.revocations),
            Freshness {
                hub: Arc::clone(hub),
                revocations: Arc::clone(&self.revocation_looks),
                sweeps: Arc::clone(&self.sweeps),
                sweep_age: 2 * config.sweep_interval,
                is_idle_told: config.relay.is_some(),
            },
            Arc::clone(hub),
            Arc::clone(health),
            Arc::clone(metrics),
            Arc::clone(&self.streams),
        )
    }

    /// The routes of the admin port.
    pub(super) fn admin(&self) -> Admin {
        Admin::new(Arc::clone(&self.parts.health), Arc::clone(&self.parts.metrics))
    }

    /// Says `closing` to every stream, and opens no more.
    pub(super) fn stop(&self) {
        self.parts.health.draining();
        self.parts.hub.close(StreamEnd::Shutdown);
    }
}

fn note_keys(outcome: &Fetched, outage: &mut Outage, health: &Health, metrics: &Metrics) {
    metrics.keys_fetched(outcome.is_ok());
    match outcome {
        Ok(keys) => {
            if outage.ends() || !health.has_been_ready() {
                tracing::info!(keys, "fetched the key set");
            } else {
                tracing::debug!(keys, "fetched the key set");
            }
            health.keys_are_known();
        }
        // What was known before is still known.
        Err(error) => {
            let error = chain(error);
            if outage.is_new(&error) {
                tracing::warn!(error, "cannot fetch the key set (JWT_JWKS_URL)");
            }
            health.key_set_fails(format!("the key set cannot be fetched: {error}"));
        }
    }
}
