//! The whole of it, wired: what `serve` and `dev` run and the tests start.

use std::{io, net::SocketAddr, sync::Arc};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    auth::{AuthConfig, Fetched, Verifier},
    config::{Config, Database},
    dispatch::{Dispatch, Dispatcher},
    ends::RecentEnds,
    error::chain,
    health::Health,
    http::{Admin, Routes},
    hub::{Hub, HubLimits},
    limits::{self, Capacity, Wanted},
    metrics::Metrics,
    postgres::{
        beat::Beat,
        connector::Connector,
        listener::{Kick, ListenError, Listener},
        store::Store,
    },
    replay::{Replayer, Replays},
    revocation::Revocations,
    server::{self, Application, Bounds, Patience},
    sse::Closing,
    stream::StreamContext,
    tls::{Acceptor, Identity},
};

/// Queries of replays that may be on their way at once. A few keep a database
/// busy; more only wait for each other.
const MAX_CONCURRENT_REPLAYS: usize = 4;

/// A gateway that has its ports and has not started yet.
pub struct Gateway {
    config: Config,
    public: TcpListener,
    admin: TcpListener,
    hub: Arc<Hub>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    connector: Arc<Connector>,
    /// For the connection that listens, which may not go through a pooler.
    listen_connector: Arc<Connector>,
    verifier: Arc<Verifier>,
}

impl Gateway {
    /// Takes the ports; connects to nothing yet.
    ///
    /// # Errors
    ///
    /// A port that cannot be had, with the setting that asks for it.
    pub fn bind(config: Config) -> Result<Self, BindError> {
        let bind = |setting, address| {
            server::bind(address).map_err(|source| BindError { setting, address, source })
        };
        Ok(Self {
            public: bind("--bind (GATEWAY_BIND)", config.bind)?,
            admin: bind("--admin-bind (GATEWAY_ADMIN_BIND)", config.admin_bind)?,
            hub: Hub::new(hub_limits(&config)),
            health: Arc::new(Health::new()),
            metrics: Arc::new(Metrics::new()),
            connector: Arc::new(Connector::new(config.database.clone())),
            listen_connector: Arc::new(Connector::new(config.listen_database.clone())),
            verifier: Arc::new(Verifier::new(&config.auth)),
            config,
        })
    }

    /// The public address, its port known even if the settings said 0.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.public.local_addr()
    }

    /// The operator's address.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn admin_addr(&self) -> io::Result<SocketAddr> {
        self.admin.local_addr()
    }

    /// How many streams it takes: the setting, or what the limit on open files
    /// allows.
    pub fn max_streams(&self) -> usize {
        self.hub.limits().streams
    }

    /// How it is: for who wants to wait until it is ready.
    pub fn health(&self) -> Arc<Health> {
        Arc::clone(&self.health)
    }

    /// What can be exchanged while it runs.
    pub fn reloader(&self) -> Reloader {
        Reloader {
            connector: Arc::clone(&self.connector),
            listen_connector: Arc::clone(&self.listen_connector),
            verifier: Arc::clone(&self.verifier),
            tls: self.config.tls.clone(),
        }
    }

    /// Runs until `shutdown`, then says `closing` to every stream and drains.
    ///
    /// # Errors
    ///
    /// A database that refuses us for good, at the start.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), RunError> {
        self.run_with(|routes| routes, shutdown).await
    }

    /// As [`Gateway::run`], with the public port's routes wrapped in others.
    ///
    /// # Errors
    ///
    /// As [`Gateway::run`].
    pub async fn run_with<S: Application>(
        self,
        wrap: impl FnOnce(Routes) -> S,
        shutdown: CancellationToken,
    ) -> Result<(), RunError> {
        let Self {
            config,
            public,
            admin,
            hub,
            health,
            metrics,
            connector,
            listen_connector,
            verifier,
        } = self;
        let patience = Patience { drain: config.drain, stall: config.stall_timeout };
        let replays = Arc::new(Replays::default());
        let streams = Arc::new(StreamContext {
            metrics: Arc::clone(&metrics),
            ends: RecentEnds::default(),
            replays: Arc::clone(&replays),
            replay_limit: config.replay_limit,
            heartbeat: config.heartbeat,
            retry: config.retry,
            drain: config.drain,
        });

        // A channel of its own for the probes of each gateway: others are not
        // woken by them.
        let nonce = Uuid::new_v4().simple().to_string();
        let probe_channel = format!("notify_gateway_{nonce}");
        let store =
            Store::new(connector, config.pool_size, config.table.clone(), probe_channel.clone());
        let store = Arc::new(store.map_err(RunError::Pool)?);
        let kick = Arc::new(Kick::default());
        let revocations = Arc::new(Revocations::default());

        let dispatcher = Dispatcher::new(Arc::clone(&hub), Arc::clone(&metrics))
            .trust_payloads(config.trust_payloads);
        let dispatch = Arc::new(Dispatch::new(dispatcher));
        let beat = Beat {
            store: Arc::clone(&store),
            hub: Arc::clone(&hub),
            revocations: Arc::clone(&revocations),
            dispatch: Arc::clone(&dispatch),
            health: Arc::clone(&health),
            metrics: Arc::clone(&metrics),
            kick: Arc::clone(&kick),
            interval: config.sweep_interval,
            nonce,
        };
        let replayer = Replayer {
            replays,
            store,
            hub: Arc::clone(&hub),
            health: Arc::clone(&health),
            metrics: Arc::clone(&metrics),
            // One is the beat's, always.
            concurrency: (config.pool_size - 1).min(MAX_CONCURRENT_REPLAYS),
        };
        let listener = Listener {
            connector: listen_connector,
            table: config.table.clone(),
            channel: config.channel.clone(),
            probe_channel,
            kick,
            dispatch,
            health: Arc::clone(&health),
            metrics: Arc::clone(&metrics),
        };
        let workers = [tokio::spawn(beat.run()), tokio::spawn(replayer.run())];
        let mut listener = tokio::spawn(listener.run());
        let key_set = verifier.key_set().cloned().map(|key_set| {
            let (health, metrics) = (Arc::clone(&health), Arc::clone(&metrics));
            if !verifier.has_keys() {
                health.keys_are_missing("starting: no key has been fetched yet".to_owned());
            }
            tokio::spawn(async move {
                key_set.run(|outcome| note_keys(outcome, &health, &metrics)).await;
            })
        });

        let admin_done = CancellationToken::new();
        let admin_routes = Admin::new(Arc::clone(&health), Arc::clone(&metrics));
        let capacity = capacity(&config);
        let admin_bounds = Bounds {
            connections: limits::ADMIN_CONNECTIONS,
            per_address: limits::ADMIN_CONNECTIONS,
            exempt: Vec::new(),
            refused: metrics.refused().too_many_connections.clone(),
        };
        let public_bounds = Bounds {
            connections: capacity.connections,
            per_address: capacity.connections_per_address,
            exempt: config.trusted_proxies.clone(),
            refused: metrics.refused().too_many_connections.clone(),
        };
        let admin =
            server::serve(admin, None, admin_routes, admin_done.clone(), patience, admin_bounds);
        let admin = tokio::spawn(admin);

        let public_done = CancellationToken::new();
        let routes = Routes::new(
            &config,
            verifier,
            Arc::clone(&revocations),
            Arc::clone(&hub),
            Arc::clone(&health),
            metrics,
            streams,
        );
        let public = server::serve(
            public,
            config.tls.clone(),
            wrap(routes),
            public_done.clone(),
            patience,
            public_bounds,
        );
        let public = tokio::spawn(public);

        let outcome = tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            // It ends by itself only when the database refuses us for good.
            refused = &mut listener => refused.map_or(Ok(()), |error| Err(RunError::Listen(error))),
        };
        tracing::info!("stopping");
        health.draining();
        // Streams end first, so that their connections can.
        hub.close(Closing::Shutdown);
        public_done.cancel();
        let _ended = public.await;
        listener.abort();
        for worker in workers.into_iter().chain(key_set) {
            worker.abort();
        }
        admin_done.cancel();
        let _ended = admin.await;
        outcome
    }
}

/// Exchanges what a running gateway works with, so that keys and certificates
/// are renewed without a restart. What is open stays open.
#[derive(Clone)]
pub struct Reloader {
    connector: Arc<Connector>,
    listen_connector: Arc<Connector>,
    verifier: Arc<Verifier>,
    tls: Option<Acceptor>,
}

impl Reloader {
    /// Connects to Postgres as these settings say, from the next connection on:
    /// the pool as `database` does, LISTEN as `listen`.
    pub fn databases(&self, database: Database, listen: Database) {
        self.connector.replace(database);
        self.listen_connector.replace(listen);
    }

    /// Verifies tokens with the keys of these settings.
    pub fn keys(&self, config: &AuthConfig) {
        self.verifier.replace_keys(config);
    }

    /// Fetches the key set again, if there is one.
    pub fn key_set(&self) {
        if let Some(key_set) = self.verifier.key_set() {
            key_set.refresh();
        }
    }

    /// Shows this certificate, from the next handshake on; a port of plain HTTP
    /// stays what it is.
    pub fn certificate(&self, identity: &Identity) {
        if let Some(tls) = &self.tls {
            tls.replace(identity);
        }
    }
}

fn note_keys(outcome: &Fetched, health: &Health, metrics: &Metrics) {
    metrics.keys_fetched(outcome.is_ok());
    match outcome {
        Ok(keys) => {
            tracing::info!(keys, "fetched the key set");
            health.keys_are_known();
        }
        // What was known before is still known.
        Err(error) => {
            tracing::warn!(error = chain(error), "cannot fetch the key set (JWT_JWKS_URL)");
        }
    }
}

fn hub_limits(config: &Config) -> HubLimits {
    HubLimits {
        queued_rows: config.stream_buffer,
        streams: capacity(config).streams,
        streams_per_user: config.max_streams_per_user,
    }
}

fn capacity(config: &Config) -> Capacity {
    let wanted = Wanted {
        streams: config.max_streams,
        streams_per_user: config.max_streams_per_user,
        connections: config.max_connections,
        pool_size: config.pool_size,
    };
    Capacity::new(limits::open_files().unwrap_or(u64::MAX), wanted)
}

/// Why a gateway that has its ports could not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The database refuses us for good.
    #[error(transparent)]
    Listen(ListenError),
    /// There is no pool.
    #[error("cannot make a pool of connections")]
    Pool(#[source] deadpool_postgres::BuildError),
}

/// A port that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("{setting}: cannot listen on {address}")]
pub struct BindError {
    setting: &'static str,
    address: SocketAddr,
    source: io::Error,
}
