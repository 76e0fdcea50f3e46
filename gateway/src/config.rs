//! Flags and environment → typed settings, once, at start.
//!
//! [`Settings`] is what a person writes, [`Config`] what the gateway works
//! with. Everything that can be wrong is found on the way from one to the
//! other, and each [`ConfigError`] names its setting both ways: an operator
//! with a flag and one with an environment file see the name they used.

mod auth;
mod database_url;
mod relay;
mod values;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{ArgAction, builder::BoolishValueParser};
use http::HeaderValue;
use ipnet::IpNet;

pub use auth::{AuthSettings, warnings};
#[cfg(any(test, fuzzing))]
pub(crate) use database_url::parse as parse_database_url;
pub use database_url::{Database, DatabaseUrlError};
pub use relay::{RelayConfig, RelayCredentials, RelayRole, RelaySettings, RelayStorage};
pub use values::{List, parse_channel, quote_identifier};
use values::{parse_duration, parse_networks, parse_origins, parse_retention};

use crate::{
    auth::{AuthConfig, KeyError, KeySetError, ProxyError},
    quiet::QuietMode,
    secret::{Secret, SecretError},
    tls::{Acceptor, Identity, TlsError},
};

// The headings of `--help` and of docs/settings.md.
const DATABASE: &str = "The database";
const ADDRESSES: &str = "Addresses and TLS";
const AUTH: &str = "Who may connect";
const STREAMS: &str = "What a stream does";
const LIMITS: &str = "Limits";
const DELIVERY: &str = "Reading the event log";
const PROCESS: &str = "The process";

/// Where the database is, as written.
///
/// The doc of each setting is its text in `--help` and in docs/settings.md, which a test writes.
#[derive(Clone, Debug, clap::Args)]
pub struct DatabaseSettings {
    /// The libpq URL of the primary, as the login role that is a member of `notify_gateway`.
    ///
    /// Required. The URL of an application beside the gateway is understood as it is written,
    /// also as `postgresql+asyncpg://…`. No log line shows a value of the URL.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL",
          help_heading = DATABASE)]
    pub database_url: Option<Secret>,
    /// A file that holds the database URL.
    ///
    /// Set this or the URL itself, never both. SIGHUP reads the file again.
    #[arg(long, env = "DATABASE_URL_FILE", value_name = "FILE", help_heading = DATABASE)]
    pub database_url_file: Option<PathBuf>,
}

impl DatabaseSettings {
    /// The database, with the files as they are now.
    ///
    /// # Errors
    ///
    /// No database URL is set, or it cannot be used.
    pub fn database(&self) -> Result<Database, ConfigError> {
        const SETTING: &str = "--database-url (DATABASE_URL, DATABASE_URL_FILE)";
        let file = self.database_url_file.as_deref();
        database(self.database_url.clone(), file, SETTING)?.ok_or(ConfigError::Missing {
            setting: SETTING,
            example: "postgres://notify@localhost/app",
        })
    }
}

/// The settings of `notify-gateway serve`, as written.
#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would print a doc here as the heading of every flag")]
    pub database: DatabaseSettings,
    /// The libpq URL of the connection that listens, for a database URL that goes through a
    /// pooler.
    ///
    /// Unless set, the gateway listens at the database URL. A pooler that pools transactions does
    /// not carry LISTEN: give the address of Postgres itself here. Without it events come by the
    /// sweep, within about a second, and `/readyz?strict` says why.
    #[arg(long, env = "LISTEN_DATABASE_URL", hide_env_values = true, value_name = "URL",
          help_heading = DATABASE)]
    pub listen_database_url: Option<Secret>,
    /// A file that holds the URL of the connection that listens.
    ///
    /// Set this or the URL itself, never both. SIGHUP reads the file again.
    #[arg(long, env = "LISTEN_DATABASE_URL_FILE", value_name = "FILE", help_heading = DATABASE)]
    pub listen_database_url_file: Option<PathBuf>,
    /// The channel on which the triggers notify.
    ///
    /// It has to be the channel with which `notify-gateway schema --channel` was run. With another
    /// one nothing rings, and events come by the sweep.
    #[arg(long, env = "GATEWAY_CHANNEL", default_value = "notifications",
          value_parser = parse_channel, value_name = "NAME", help_heading = DATABASE)]
    pub channel: String,
    /// How many connections to the database the gateway has beside the one that listens.
    ///
    /// Replays share them, so a reconnect storm never takes more. Replays that find no connection
    /// free wait. From 3 to 1000.
    #[arg(long, env = "GATEWAY_POOL_SIZE", default_value = "8",
          value_parser = clap::value_parser!(u16).range(3..=1000), value_name = "CONNECTIONS",
          help_heading = DATABASE)]
    pub pool_size: u16,
    /// The address of the public port, which has the stream and nothing else.
    ///
    /// The port belongs behind your proxy. An address that is taken ends the process with exit
    /// code 1.
    #[arg(long, env = "GATEWAY_BIND", default_value = "127.0.0.1:8080", value_name = "ADDR",
          help_heading = ADDRESSES)]
    pub bind: SocketAddr,
    /// The address of the operator's port: /healthz, /readyz, /metrics.
    ///
    /// The port asks for no credentials: keep it on an address that only operators reach. It takes
    /// 64 connections at once.
    #[arg(long, env = "GATEWAY_ADMIN_BIND", default_value = "127.0.0.1:8081", value_name = "ADDR",
          help_heading = ADDRESSES)]
    pub admin_bind: SocketAddr,
    /// The certificate of the public port: the chain in PEM, the certificate of the port first.
    ///
    /// Together with --tls-key it makes the port speak TLS, with HTTP/2 and HTTP/1.1. Without both
    /// the port speaks plain HTTP. SIGHUP reads the file again; one that cannot be used is refused
    /// with a line in the log, and the one from before stays.
    #[arg(long, env = "GATEWAY_TLS_CERT", value_name = "FILE", help_heading = ADDRESSES)]
    pub tls_cert: Option<PathBuf>,
    /// The private key of the certificate, in PEM.
    #[arg(long, env = "GATEWAY_TLS_KEY", value_name = "FILE", help_heading = ADDRESSES)]
    pub tls_key: Option<PathBuf>,
    /// The proxies that are believed about where a request comes from, separated by commas.
    ///
    /// From their addresses the gateway believes `Forwarded`, `X-Forwarded-For` and
    /// `X-Forwarded-Host`, and the limit on the connections of one address does not hold for them.
    /// An empty value trusts no proxy. If your proxy is missing here, all users seem to have its
    /// address and share one rate limit (429), and cookies count as foreign (403).
    #[arg(long, env = "GATEWAY_TRUSTED_PROXIES", default_value = "127.0.0.0/8,::1/128",
          value_parser = parse_networks, value_name = "NETWORKS", help_heading = ADDRESSES)]
    pub trusted_proxies: List<IpNet>,
    /// The origins of pages that may read the stream from another origin, separated by commas:
    /// `https://app.example.com`.
    ///
    /// Unless set, only pages of the stream's own origin may. An origin is written exactly as
    /// browsers send it: no path, no `*`, no capital letters. A page of another origin sees a CORS
    /// error, and its cookie gets a 403.
    #[arg(long, env = "GATEWAY_CORS_ORIGINS", default_value = "", value_name = "ORIGINS",
          value_parser = parse_origins, hide_default_value = true, help_heading = ADDRESSES)]
    pub cors_origins: List<HeaderValue>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would print a doc here as the heading of every flag")]
    pub auth: AuthSettings,
    /// The feature flag of the stream.
    ///
    /// When it is false, every request for the stream is answered 204, and browsers stop asking.
    #[arg(long, env = "ENABLE_SSE_NOTIFICATIONS", default_value = "true",
          action = ArgAction::Set, value_parser = BoolishValueParser::new(), value_name = "BOOL",
          help_heading = STREAMS)]
    pub enable_sse_notifications: bool,
    /// How often an open stream sends a heartbeat.
    ///
    /// Between two heartbeats comment lines are sent, which clients do not see, so that no stream
    /// is silent for more than 15 seconds. The time limit of each proxy on the way has to be longer
    /// than that, or streams are cut while nothing happens. A client that is gone without a word is
    /// noticed within this time and 30 seconds. From 10ms to 24h.
    #[arg(long, env = "GATEWAY_HEARTBEAT", default_value = "30s",
          value_parser = parse_duration, value_name = "DURATION", help_heading = STREAMS)]
    pub heartbeat: Duration,
    /// How long a client waits before it reconnects.
    ///
    /// Each stream is told a time between this and twice as much, so that clients that were cut off
    /// together do not come back together. From 10ms to 24h.
    #[arg(long, env = "GATEWAY_RETRY", default_value = "1s",
          value_parser = parse_duration, value_name = "DURATION", help_heading = STREAMS)]
    pub retry: Duration,
    /// How old a stream may get before the gateway ends it.
    ///
    /// Unless set, a stream lives as long as its token. With it, each stream ends within a tenth of
    /// this age by `closing` (`max_age`) and its client reconnects, so that new replicas get their
    /// share of the streams. From 10ms to 24h.
    #[arg(long, env = "GATEWAY_MAX_STREAM_AGE", value_parser = parse_duration,
          value_name = "DURATION", help_heading = STREAMS)]
    pub max_stream_age: Option<Duration>,
    /// How long the socket of a stream may take nothing before the stream is closed.
    ///
    /// It bounds how long a reader that has stopped keeps its place. Its events wait in the log,
    /// and come when it reconnects; a reader that is only slow is never closed. From 10ms to 24h.
    #[arg(long, env = "GATEWAY_STALL_TIMEOUT", default_value = "30s",
          value_parser = parse_duration, value_name = "DURATION", help_heading = STREAMS)]
    pub stall_timeout: Duration,
    /// Whether streams say `no-transform` in `Cache-Control`.
    ///
    /// Set it to true where something on the way compresses streams and so holds events back, such
    /// as Express `compression()` or a development proxy.
    #[arg(long, env = "GATEWAY_NO_TRANSFORM", default_value = "false",
          action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true",
          require_equals = true, value_parser = BoolishValueParser::new(), value_name = "BOOL",
          help_heading = STREAMS)]
    pub no_transform: bool,
    /// How many streams may be open.
    ///
    /// Each stream is an open file, so the gateway takes fewer where the limit on open files is
    /// lower, and says how many in its first lines of log. The next client gets a 503 (`full`), a
    /// browser a stream that says `closing` (`full`) and when to come back. At least 1.
    #[arg(long, env = "GATEWAY_MAX_STREAMS", default_value = "100000",
          value_parser = clap::value_parser!(u32).range(1..), value_name = "STREAMS",
          help_heading = LIMITS)]
    pub max_streams: u32,
    /// How many streams one user may have open.
    ///
    /// It keeps a page that opens streams and never closes them from taking the places of others.
    /// The next one gets a 429 (`too-many-streams`), in a browser `closing` (`too_many_streams`).
    /// At least 1.
    #[arg(long, env = "GATEWAY_MAX_STREAMS_PER_USER", default_value = "32",
          value_parser = clap::value_parser!(u32).range(1..), value_name = "STREAMS",
          help_heading = LIMITS)]
    pub max_streams_per_user: u32,
    /// How many connections may be open, whether they ask for something or not.
    ///
    /// Unless set, a tenth more than --max-streams, and at least 64 more. One address that is not a
    /// trusted proxy may have a quarter of them, or four times --max-streams-per-user where that is
    /// more. When there is no room, the oldest connection that asks for nothing is closed; if all of
    /// them are being answered, the new one is. At least 1.
    #[arg(long, env = "GATEWAY_MAX_CONNECTIONS", value_parser = clap::value_parser!(u32).range(1..),
          value_name = "CONNECTIONS", help_heading = LIMITS)]
    pub max_connections: Option<u32>,
    /// How many times a second one address may ask for a stream.
    ///
    /// Twice as many may come at once; 0 sets no limit. It keeps clients that reconnect in a loop
    /// from taking the time of others. Those above it get a 429 (`rate-limited`), in a browser
    /// `closing` (`rate_limited`).
    #[arg(long, env = "GATEWAY_CONNECT_RATE", default_value = "100", value_name = "ATTEMPTS",
          help_heading = LIMITS)]
    pub connect_rate: u32,
    /// How many times a second one user may ask for a stream.
    ///
    /// Twice as many may come at once; 0 sets no limit. Only requests with a valid token count.
    /// Those above it get the same answers as above --connect-rate.
    #[arg(long, env = "GATEWAY_USER_CONNECT_RATE", default_value = "10", value_name = "ATTEMPTS",
          help_heading = LIMITS)]
    pub user_connect_rate: u32,
    /// How many events one stream may have waiting for its socket.
    ///
    /// It bounds the memory of a slow reader, together with 1 MiB of waiting events. A stream whose
    /// buffer is full loses nothing: it reads on from the event log at its own pace. From 1 to
    /// 65,536.
    #[arg(long, env = "GATEWAY_STREAM_BUFFER", default_value = "256",
          value_parser = clap::value_parser!(u32).range(1..=65_536), value_name = "EVENTS",
          help_heading = LIMITS)]
    pub stream_buffer: u32,
    /// How many events a reconnect replays.
    ///
    /// It bounds what a client that was away for long costs the database. A client that has missed
    /// more gets `resync` (`too_far_back`), fetches its list, and goes on live. From 1 to
    /// 1,000,000.
    #[arg(long, env = "GATEWAY_REPLAY_LIMIT", default_value = "1000",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000), value_name = "ROWS",
          help_heading = LIMITS)]
    pub replay_limit: u32,
    /// How long events are kept in the log.
    ///
    /// It decides for how long a client may be away, and how large the log gets. A client that was
    /// away for longer gets `resync` (`too_far_back`). Set it to the same value for all gateways of
    /// a database. From 1s to 366days.
    #[arg(long, env = "GATEWAY_RETENTION", default_value = "7d",
          value_parser = parse_retention, value_name = "DURATION", help_heading = DELIVERY)]
    pub retention: Duration,
    /// How often the log is swept while streams are open.
    ///
    /// A sweep finds what no notification has brought, and probes the LISTEN connection; a probe
    /// that is not back after three intervals has the connection replaced. While no stream is open
    /// and rows come, the interval is ten times as long; while nothing happens, nothing is asked.
    /// From 10ms to 24h.
    #[arg(long, env = "GATEWAY_SWEEP_INTERVAL", default_value = "1s",
          value_parser = parse_duration, value_name = "DURATION", help_heading = DELIVERY)]
    pub sweep_interval: Duration,
    /// Whether events are taken from notifications.
    ///
    /// Every role that may connect to the database can notify. Where strangers have such a role,
    /// set it to false: a notification is then only a reason to read the log, and nobody can make
    /// events up.
    #[arg(long, env = "GATEWAY_TRUST_PAYLOADS", default_value = "true",
          action = ArgAction::Set, value_parser = BoolishValueParser::new(), value_name = "BOOL",
          help_heading = DELIVERY)]
    pub trust_payloads: bool,
    /// When the triggers do not notify, and the log is swept often instead.
    ///
    /// Commits that notify go one at a time, so that NOTIFY slows many writers down: `auto` leaves
    /// it out under load. `always` is for applications that `PREPARE TRANSACTION`, `never` always
    /// notifies. Set it to the same value for all gateways of a database.
    #[arg(long, env = "GATEWAY_QUIET", default_value = "auto", value_name = "MODE",
          help_heading = DELIVERY)]
    pub quiet: QuietMode,
    /// How many transactions a second have to write events before the triggers become quiet.
    ///
    /// It counts with --quiet=auto. At least 2.
    #[arg(long, env = "GATEWAY_QUIET_ABOVE", default_value = "500",
          value_parser = clap::value_parser!(u32).range(2..), value_name = "TRANSACTIONS",
          help_heading = DELIVERY)]
    pub quiet_above: u32,
    /// How often the log is swept while the triggers are quiet.
    ///
    /// An event then comes later by half of it on average. From 10ms to 24h.
    #[arg(long, env = "GATEWAY_QUIET_SWEEP_INTERVAL", default_value = "25ms",
          value_parser = parse_duration, value_name = "DURATION", help_heading = DELIVERY)]
    pub quiet_sweep_interval: Duration,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would print a doc here as the heading of every flag")]
    pub relay: RelaySettings,
    /// Over how long the clients of a gateway that stops are to come back.
    ///
    /// At SIGTERM each stream gets `closing` (`shutdown`) and a time to reconnect, spread over this
    /// time, so that the clients do not come back all at once. Connections that have not taken
    /// their last bytes by then are cut. What stops the process (systemd, Docker, Kubernetes) has
    /// to wait for longer than this. From 10ms to 24h.
    #[arg(long, env = "GATEWAY_DRAIN", default_value = "5s",
          value_parser = parse_duration, value_name = "DURATION", help_heading = PROCESS)]
    pub drain: Duration,
    /// How many threads serve streams.
    ///
    /// One thread serves some hundred thousand events a second, and costs the least CPU for each.
    /// More are for TLS on the public port and for very many streams. From 1 to 256.
    #[arg(long, env = "GATEWAY_THREADS", default_value = "1",
          value_parser = clap::value_parser!(u16).range(1..=256), value_name = "THREADS",
          help_heading = PROCESS)]
    pub threads: u16,
    /// How log lines are written.
    ///
    /// `text` is for people, `json` writes one object a line. RUST_LOG says which lines are
    /// written: `info` unless set.
    #[arg(long, env = "GATEWAY_LOG_FORMAT", default_value = "text", value_name = "FORMAT",
          help_heading = PROCESS)]
    pub log_format: LogFormat,
}

/// The settings, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// How to reach Postgres.
    pub database: Database,
    /// How the connection that listens reaches it.
    pub listen_database: Database,
    /// The public address.
    pub bind: SocketAddr,
    /// The operator's address.
    pub admin_bind: SocketAddr,
    /// The feature flag.
    pub enabled: bool,
    /// The channel to LISTEN on.
    pub channel: String,
    /// Who may connect.
    pub auth: AuthConfig,
    /// Time between a stream's heartbeats.
    pub heartbeat: Duration,
    /// The client's wait before a reconnect, before jitter.
    pub retry: Duration,
    /// Origins whose pages may read the answers.
    pub cors_origins: Vec<HeaderValue>,
    /// Streams in all.
    pub max_streams: usize,
    /// Streams of one user.
    pub max_streams_per_user: usize,
    /// Connections in all, unless they follow from the streams.
    pub max_connections: Option<usize>,
    /// Attempts a second of one address.
    pub connect_rate: u32,
    /// Attempts a second of one user.
    pub user_connect_rate: u32,
    /// Proxies that are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// How long a socket may take nothing.
    pub stall_timeout: Duration,
    /// Whether rows are taken from notifications.
    pub trust_payloads: bool,
    /// Events one stream may have waiting.
    pub stream_buffer: usize,
    /// Rows a reconnect replays at most.
    pub replay_limit: u32,
    /// Connections to the database beside the one that listens.
    pub pool_size: usize,
    /// How long events are kept.
    pub retention: Duration,
    /// Time between two sweeps.
    pub sweep_interval: Duration,
    /// When the triggers are quiet.
    pub quiet: QuietMode,
    /// Transactions a second past which they are, with [`QuietMode::Auto`].
    pub quiet_above: u32,
    /// Time between two sweeps while they are.
    pub quiet_sweep_interval: Duration,
    /// How one gateway tells others, if it does.
    pub relay: Option<RelayConfig>,
    /// How long a stop may take.
    pub drain: Duration,
    /// How old a stream gets, before jitter.
    pub max_stream_age: Option<Duration>,
    /// Whether streams say no-transform.
    pub no_transform: bool,
    /// What makes the public port speak TLS.
    pub tls: Option<Acceptor>,
}

impl Settings {
    /// Checks what the flags alone cannot, and reads the files they name.
    ///
    /// # Errors
    ///
    /// The first setting that is wrong or missing.
    pub fn into_config(self) -> Result<Config, ConfigError> {
        let (database, listen_database) = self.databases()?;
        let tls = self.identity()?.map(|identity| Acceptor::new(&identity)).transpose();
        let tls = tls.map_err(|source| ConfigError::Tls { source })?;
        Ok(Config {
            database,
            listen_database,
            bind: self.bind,
            admin_bind: self.admin_bind,
            enabled: self.enable_sse_notifications,
            channel: self.channel,
            auth: self.auth.config()?,
            heartbeat: self.heartbeat,
            retry: self.retry,
            cors_origins: self.cors_origins.0,
            max_streams: self.max_streams as usize,
            max_streams_per_user: self.max_streams_per_user as usize,
            max_connections: self.max_connections.map(|connections| connections as usize),
            connect_rate: self.connect_rate,
            user_connect_rate: self.user_connect_rate,
            trusted_proxies: self.trusted_proxies.0,
            stall_timeout: self.stall_timeout,
            trust_payloads: self.trust_payloads,
            stream_buffer: self.stream_buffer as usize,
            replay_limit: self.replay_limit,
            pool_size: self.pool_size.into(),
            retention: self.retention,
            sweep_interval: self.sweep_interval,
            quiet: self.quiet,
            quiet_above: self.quiet_above,
            quiet_sweep_interval: self.quiet_sweep_interval,
            relay: self.relay.config()?,
            drain: self.drain,
            max_stream_age: self.max_stream_age,
            no_transform: self.no_transform,
            tls,
        })
    }

    /// Where the database is, for the pool and for the connection that listens,
    /// with the files as they are now.
    ///
    /// # Errors
    ///
    /// As [`Settings::into_config`].
    pub fn databases(&self) -> Result<(Database, Database), ConfigError> {
        let database = self.database.database()?;
        let listen = self.listen_database()?.unwrap_or_else(|| database.clone());
        Ok((database, listen))
    }

    /// The names of the setting that says where the connection that listens goes.
    pub fn listen_setting(&self) -> &'static str {
        let is_file = |file: &PathBuf| !file.as_os_str().is_empty();
        let is_set = self.listen_database_url.as_ref().is_some_and(|url| !url.expose().is_empty())
            || self.listen_database_url_file.as_ref().is_some_and(is_file);
        if is_set {
            "--listen-database-url (LISTEN_DATABASE_URL)"
        } else {
            "--database-url (DATABASE_URL)"
        }
    }

    fn listen_database(&self) -> Result<Option<Database>, ConfigError> {
        const SETTING: &str =
            "--listen-database-url (LISTEN_DATABASE_URL, LISTEN_DATABASE_URL_FILE)";
        let file = self.listen_database_url_file.as_deref();
        database(self.listen_database_url.clone(), file, SETTING)
    }

    /// As whom the public port speaks TLS, if it does, with the files as they
    /// are now.
    ///
    /// # Errors
    ///
    /// As [`Settings::into_config`].
    pub fn identity(&self) -> Result<Option<Identity>, ConfigError> {
        let named = |file: &Option<PathBuf>| file.clone().filter(|f| !f.as_os_str().is_empty());
        match (named(&self.tls_cert), named(&self.tls_key)) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => Identity::read(&certificate, &key)
                .map(Some)
                .map_err(|source| ConfigError::Tls { source }),
            (None, Some(_)) => Err(ConfigError::Missing {
                setting: "--tls-cert (GATEWAY_TLS_CERT)",
                example: "/etc/ssl/certs/notifications.pem; --tls-key needs it",
            }),
            (Some(_), None) => Err(ConfigError::Missing {
                setting: "--tls-key (GATEWAY_TLS_KEY)",
                example: "/etc/ssl/private/notifications.key; --tls-cert needs it",
            }),
        }
    }
}

fn database(
    value: Option<Secret>,
    file: Option<&Path>,
    setting: &'static str,
) -> Result<Option<Database>, ConfigError> {
    let Some(url) = secret(value, file, setting)? else { return Ok(None) };
    database_url::parse(url.expose())
        .map(Some)
        .map_err(|source| ConfigError::DatabaseUrl { setting, source })
}

/// A value, else a file's content. An empty value counts as not set: that is
/// what a compose file with an unset variable passes.
fn secret(
    value: Option<Secret>,
    file: Option<&Path>,
    setting: &'static str,
) -> Result<Option<Secret>, ConfigError> {
    let value = value.filter(|secret| !secret.expose().is_empty());
    let file = file.filter(|file| !file.as_os_str().is_empty());
    match (value, file) {
        (Some(_), Some(_)) => Err(ConfigError::Twice { setting }),
        (value, None) => Ok(value),
        (None, Some(file)) => {
            let text = std::fs::read_to_string(file).map_err(|source| ConfigError::File {
                setting,
                file: file.to_owned(),
                source,
            })?;
            // Editors end a file with a line end that is not part of the secret.
            let text = text.trim_end_matches(['\r', '\n']);
            if text.is_empty() {
                // An empty secret would verify anyone's tokens.
                return Err(ConfigError::Empty { setting, file: file.to_owned() });
            }
            Ok(Some(Secret::new(text.to_owned())))
        }
    }
}

/// A setting that is wrong or missing. One line, naming it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A required setting is missing.
    #[error("{setting} is missing; set it, for example to: {example}")]
    Missing {
        /// The setting's names.
        setting: &'static str,
        /// What a good value looks like.
        example: &'static str,
    },
    /// A secret is set as a value and as a file.
    #[error("{setting} is set twice, as a value and as a file; keep one")]
    Twice {
        /// The setting's names.
        setting: &'static str,
    },
    /// A file holds no public keys.
    #[error("{setting}: {} cannot be used: {source}", file.display())]
    Key {
        /// The setting's names.
        setting: &'static str,
        /// The file it names.
        file: PathBuf,
        /// What is wrong with it.
        source: KeyError,
    },
    /// A file is not a key set, or has no key that can be used.
    #[error("{setting}: {} cannot be used: {source}", file.display())]
    KeySet {
        /// The setting's names.
        setting: &'static str,
        /// The file it names.
        file: PathBuf,
        /// What is wrong with it.
        source: KeySetError,
    },
    /// The secret cannot be decoded.
    #[error("{setting}: {source}")]
    Secret {
        /// The setting's names.
        setting: &'static str,
        /// What is wrong with it.
        source: SecretError,
    },
    /// The key set's host is behind a proxy that cannot be used.
    #[error("{setting}: {source}")]
    Proxy {
        /// The setting's names.
        setting: &'static str,
        /// What is wrong with it.
        source: ProxyError,
    },
    /// A relay's URL, which may hold a password.
    #[error(
        "--relay (GATEWAY_RELAY, GATEWAY_RELAY_FILE) has something that is no URL of a NATS \
         server; a good one is nats://nats:4222"
    )]
    RelayUrl,
    /// Two ways to show who the gateway is.
    #[error(
        "--relay-credentials-file and --relay-nkey-file (GATEWAY_RELAY_CREDENTIALS_FILE, \
         GATEWAY_RELAY_NKEY_FILE) are both set; keep one"
    )]
    RelayCredentials,
    /// A secret's file is empty.
    #[error("{setting}: {} is empty; write the secret into it", file.display())]
    Empty {
        /// The setting's names.
        setting: &'static str,
        /// The file it names.
        file: PathBuf,
    },
    /// A secret's file cannot be read.
    #[error("{setting}: cannot read {}: {source}", file.display())]
    File {
        /// The setting's names.
        setting: &'static str,
        /// The file it names.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The public port's certificate or its key.
    #[error("--tls-cert, --tls-key (GATEWAY_TLS_CERT, GATEWAY_TLS_KEY): {source}")]
    Tls {
        /// What is wrong with them.
        source: TlsError,
    },
    /// The host of the key set could not be verified.
    #[error("{setting}: {source}")]
    Jwks {
        /// The setting's names.
        setting: &'static str,
        /// What is wrong.
        source: TlsError,
    },
    /// A database URL that cannot be used.
    #[error("{setting}: {source}")]
    DatabaseUrl {
        /// The setting's names.
        setting: &'static str,
        /// What is wrong with it.
        source: DatabaseUrlError,
    },
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For a person at a terminal.
    Text,
    /// One JSON object a line.
    Json,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        settings: Settings,
    }

    fn parse(args: &[&str]) -> Result<Settings, clap::Error> {
        Command::try_parse_from([&["gateway"], args].concat()).map(|command| command.settings)
    }

    fn config(args: &[&str]) -> Result<Config, ConfigError> {
        parse(args).unwrap().into_config()
    }

    const GOOD: [&str; 4] = ["--database-url", "postgres://u@localhost/app", "--jwt-secret", "s"];

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let config = config(&GOOD).unwrap();
        assert_eq!(config.bind.to_string(), "127.0.0.1:8080");
        assert_eq!(config.admin_bind.to_string(), "127.0.0.1:8081");
        assert!(config.enabled && config.auth.query_token);
        assert_eq!(config.channel, "notifications");
        assert_eq!(config.heartbeat, Duration::from_secs(30));
        assert_eq!(config.retry, Duration::from_secs(1));
        assert_eq!(config.stream_buffer, 256);
        assert_eq!((config.replay_limit, config.pool_size), (1000, 8));
        assert_eq!(config.retention, Duration::from_secs(7 * 24 * 60 * 60));
        assert_eq!(config.sweep_interval, Duration::from_secs(1));
        assert_eq!((config.quiet, config.quiet_above), (QuietMode::Auto, 500));
        assert_eq!(config.quiet_sweep_interval, Duration::from_millis(25));
        assert_eq!(config.drain, Duration::from_secs(5));
        assert_eq!(config.auth.leeway, Duration::from_secs(5));
        assert_eq!(config.auth.user_claim.as_str(), "sub");
        assert_eq!(config.auth.audience_claim.as_str(), "aud");
    }

    #[test]
    fn a_missing_setting_is_named_both_ways() {
        let error = config(&GOOD[2..]).unwrap_err().to_string();
        assert!(error.contains("--database-url") && error.contains("DATABASE_URL"), "{error}");
        let error = config(&GOOD[..2]).unwrap_err().to_string();
        assert!(error.contains("--jwt-secret") && error.contains("JWT_SECRET"), "{error}");
    }

    #[test]
    fn a_secret_comes_from_a_file_without_its_line_end_and_not_from_two_places() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "from a file\n").unwrap();
        let path = file.path().to_str().unwrap();
        let config1 = config(&[&GOOD[..2], &["--jwt-secret-file", path]].concat()).unwrap();
        assert_eq!(config1.auth.secret.unwrap().expose(), b"from a file");
        let error = config(&[&GOOD[..], &["--jwt-secret-file", path]].concat()).unwrap_err();
        assert!(matches!(error, ConfigError::Twice { .. }));
        for empty in ["", "\n"] {
            std::fs::write(&file, empty).unwrap();
            let error = config(&[&GOOD[..2], &["--jwt-secret-file", path]].concat()).unwrap_err();
            assert!(matches!(error, ConfigError::Empty { .. }), "{error}");
        }
        let gone = [&GOOD[..2], &["--jwt-secret-file", "/nowhere"]].concat();
        assert!(config(&gone).unwrap_err().to_string().contains("/nowhere"));
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let args = ["--database-url", "postgres://u:hunter2@h/d", "--jwt-secret", "hunter2"];
        assert!(!format!("{:?}", parse(&args).unwrap()).contains("hunter2"));
        assert!(!format!("{:?}", config(&args).unwrap()).contains("hunter2"));
    }

    #[test]
    fn a_leeway_is_in_whole_seconds() {
        assert!(auth::parse_leeway("0s").is_ok() && auth::parse_leeway("1500ms").is_err());
    }

    #[test]
    fn the_listener_goes_where_its_own_url_says_and_else_where_the_pool_goes() {
        let hosts = |config: &Config| {
            [&config.database, &config.listen_database].map(|d| d.config.get_hosts().to_vec())
        };
        let [pool, listen] = hosts(&config(&GOOD).unwrap());
        assert_eq!(pool, listen);
        let url = "postgres://u:hunter2@direct/app";
        let elsewhere = [&GOOD[..], &["--listen-database-url", url]].concat();
        let [pool, listen] = hosts(&config(&elsewhere).unwrap());
        assert_ne!(pool, listen);
        let wrong = [&GOOD[..], &["--listen-database-url", "mysql://u:hunter2@direct/app"]];
        let error = config(&wrong.concat()).unwrap_err().to_string();
        assert!(error.contains("--listen-database-url (LISTEN_DATABASE_URL"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}
