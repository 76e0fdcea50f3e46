//! The whole of it, wired: what `serve` and `dev` run and the tests start.

mod core;

use std::{io, net::SocketAddr, sync::Arc};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::core::{Core, Parts};
use crate::{
    auth::{AuthConfig, Verifier},
    config::{Config, Database},
    health::Health,
    http::Routes,
    hub::{Hub, HubLimits},
    limits::{self, Capacity},
    listen::ListenError,
    metrics::Metrics,
    postgres::connector::Connector,
    relay::nats::{NatsError, NatsRelay},
    server::{self, Application, Bounds, Patience},
    supervisor::{Supervisor, TaskEnded},
    systemd::Sockets,
    tls::{Acceptor, Identity},
};

/// A gateway that has its ports and has not started yet.
pub struct Gateway {
    config: Config,
    public: TcpListener,
    admin: TcpListener,
    parts: Parts,
}

impl Gateway {
    /// Takes the ports; connects to nothing yet.
    ///
    /// # Errors
    ///
    /// A port that cannot be had, with the setting that asks for it.
    pub fn bind(config: Config) -> Result<Self, BindError> {
        Self::bind_or_take(config, Sockets::default())
    }

    /// As [`Gateway::bind`], with sockets that listen already in the place of those of the
    /// settings.
    ///
    /// # Errors
    ///
    /// As [`Gateway::bind`].
    pub fn bind_or_take(config: Config, sockets: Sockets) -> Result<Self, BindError> {
        let bind = |setting, address, given: Option<_>| {
            let listener = given.map_or_else(|| server::bind(address), server::take);
            listener.map_err(|source| BindError { setting, address, source })
        };
        Ok(Self {
            public: bind("--bind (GATEWAY_BIND)", config.bind, sockets.public)?,
            admin: bind("--admin-bind (GATEWAY_ADMIN_BIND)", config.admin_bind, sockets.admin)?,
            parts: Parts {
                hub: Hub::new(hub_limits(&config)),
                health: Arc::new(health(&config)),
                metrics: Arc::new(Metrics::new()),
                connector: Arc::new(Connector::new(config.database.clone())),
                listen_connector: Arc::new(Connector::new(config.listen_database.clone())),
                verifier: Arc::new(Verifier::new(&config.auth)),
            },
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
        self.parts.hub.limits().streams
    }

    /// How many connections its public port takes.
    pub fn max_connections(&self) -> usize {
        capacity(&self.config).connections
    }

    /// How it is: for who wants to wait until it is ready.
    pub fn health(&self) -> Arc<Health> {
        Arc::clone(&self.parts.health)
    }

    /// What can be exchanged while it runs.
    pub fn reloader(&self) -> Reloader {
        Reloader {
            connector: Arc::clone(&self.parts.connector),
            listen_connector: Arc::clone(&self.parts.listen_connector),
            verifier: Arc::clone(&self.parts.verifier),
            tls: self.config.tls.clone(),
        }
    }

    /// Runs until `shutdown`, then says `closing` to every stream and drains.
    ///
    /// # Errors
    ///
    /// A database that refuses us for good, at the start; a task that has ended
    /// by itself.
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
        let Self { config, public, admin, parts } = self;
        let (public_bounds, admin_bounds) = bounds(&config, &parts.metrics);
        let relay = match &config.relay {
            Some(relay) => {
                Some(Arc::new(NatsRelay::connect(relay).await.map_err(RunError::Relay)?))
            }
            None => None,
        };
        let core = Core::new(&config, parts, relay).map_err(RunError::Pool)?;
        let mut workers = Supervisor::default();
        let refused = core.spawn(&config, &mut workers);
        let patience = Patience { drain: config.drain, stall: config.stall_timeout };

        let admin_done = CancellationToken::new();
        let stop = admin_done.clone();
        let admin = server::serve(admin, None, core.admin(), stop, patience, admin_bounds);
        let mut admin = Served::new("admin port", admin, admin_done);
        let public_done = CancellationToken::new();
        let routes = wrap(core.routes(&config));
        let tls = config.tls.clone();
        let stop = public_done.clone();
        let public = server::serve(public, tls, routes, stop, patience, public_bounds);
        let mut public = Served::new("public port", public, public_done);

        let outcome = tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            Ok(error) = refused => Err(RunError::Listen(error)),
            ended = workers.ended() => Err(RunError::Task(ended)),
            ended = public.ended() => Err(RunError::Task(ended)),
            ended = admin.ended() => Err(RunError::Task(ended)),
        };
        tracing::info!("stopping");
        core.stop();
        // Streams end first, so that their connections can.
        public.stop().await;
        workers.shutdown().await;
        admin.stop().await;
        outcome
    }
}

/// A port that is served until it is told to stop.
struct Served {
    task: Supervisor,
    done: CancellationToken,
}

impl Served {
    fn new(
        name: &'static str,
        serving: impl Future<Output = ()> + Send + 'static,
        done: CancellationToken,
    ) -> Self {
        let mut task = Supervisor::default();
        task.spawn(name, serving);
        Self { task, done }
    }

    async fn ended(&mut self) -> TaskEnded {
        self.task.ended().await
    }

    /// Waits until the connections have ended, for as long as they may take. One
    /// that has ended by itself is not waited for.
    async fn stop(mut self) {
        self.done.cancel();
        if !self.task.is_empty() {
            self.task.ended().await;
        }
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

fn health(config: &Config) -> Health {
    let role = config.relay.as_ref().map(|relay| relay.role);
    role.map_or_else(Health::new, |role| Health::with_relay(role.is_edge(), role.is_source()))
}

fn hub_limits(config: &Config) -> HubLimits {
    let has_streams = config.relay.as_ref().is_none_or(|relay| relay.role.is_edge());
    HubLimits {
        queued_rows: config.stream_buffer,
        streams: if has_streams { capacity(config).streams } else { 0 },
        streams_per_user: config.max_streams_per_user,
    }
}

/// How many connections the public port takes, and the admin port.
fn bounds(config: &Config, metrics: &Metrics) -> (Bounds, Bounds) {
    let capacity = capacity(config);
    let refused = metrics.refused().too_many_connections.clone();
    let admin = Bounds {
        connections: limits::ADMIN_CONNECTIONS,
        per_address: limits::ADMIN_CONNECTIONS,
        exempt: Vec::new(),
        refused: refused.clone(),
    };
    let public = Bounds {
        connections: capacity.connections,
        per_address: capacity.connections_per_address,
        exempt: config.trusted_proxies.clone(),
        refused,
    };
    (public, admin)
}

fn capacity(config: &Config) -> Capacity {
    Capacity::new(limits::open_files().unwrap_or(u64::MAX), config.into())
}

/// Why a gateway that has its ports could not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The database refuses us for good.
    #[error(transparent)]
    Listen(ListenError),
    /// A task that should have lasted has ended.
    #[error(transparent)]
    Task(TaskEnded),
    /// The relay cannot be used.
    #[error(transparent)]
    Relay(NatsError),
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
