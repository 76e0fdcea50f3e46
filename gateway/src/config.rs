//! Flags and environment → typed settings, once, at start.
//!
//! [`Settings`] is what a person writes, [`Config`] what the gateway works
//! with. Everything that can be wrong is found on the way from one to the
//! other, and each [`ConfigError`] names its setting both ways: an operator
//! with a flag and one with an environment file see the name they used.

mod auth;
mod database_url;
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
pub use values::{List, parse_channel, quote_identifier};
use values::{parse_duration, parse_networks, parse_origins, parse_retention};

use crate::{
    auth::{AuthConfig, KeyError, KeySetError, ProxyError},
    quiet::QuietMode,
    secret::{Secret, SecretError},
    tls::{Acceptor, Identity, TlsError},
};

/// Where the database is, as written.
#[derive(Clone, Debug, clap::Args)]
pub struct DatabaseSettings {
    /// The libpq URL of the primary.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<Secret>,
    /// A file that holds the database URL.
    #[arg(long, env = "DATABASE_URL_FILE", value_name = "FILE")]
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
    /// The libpq URL of the connection that listens, where the database URL goes
    /// through a pooler: the server's own address. Otherwise as the database URL.
    #[arg(long, env = "LISTEN_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub listen_database_url: Option<Secret>,
    /// A file that holds the URL of the connection that listens.
    #[arg(long, env = "LISTEN_DATABASE_URL_FILE", value_name = "FILE")]
    pub listen_database_url_file: Option<PathBuf>,
    /// The public address: the stream and nothing else.
    #[arg(long, env = "GATEWAY_BIND", default_value = "127.0.0.1:8080", value_name = "ADDR")]
    pub bind: SocketAddr,
    /// The operator's address: /healthz, /readyz, /metrics.
    #[arg(long, env = "GATEWAY_ADMIN_BIND", default_value = "127.0.0.1:8081", value_name = "ADDR")]
    pub admin_bind: SocketAddr,
    /// The feature flag: when false every stream request is answered 204, and
    /// browsers stop asking.
    #[arg(long, env = "ENABLE_SSE_NOTIFICATIONS", default_value = "true",
          action = ArgAction::Set, value_parser = BoolishValueParser::new(), value_name = "BOOL")]
    pub enable_sse_notifications: bool,
    /// The channel the triggers notify on.
    #[arg(long, env = "GATEWAY_CHANNEL", default_value = "notifications",
          value_parser = parse_channel, value_name = "NAME")]
    pub channel: String,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would print a doc here as the heading of every flag")]
    pub auth: AuthSettings,
    /// How often a stream shows that it lives.
    #[arg(long, env = "GATEWAY_HEARTBEAT", default_value = "30s",
          value_parser = parse_duration, value_name = "DURATION")]
    pub heartbeat: Duration,
    /// How long a client waits before it reconnects, before jitter.
    #[arg(long, env = "GATEWAY_RETRY", default_value = "1s",
          value_parser = parse_duration, value_name = "DURATION")]
    pub retry: Duration,
    /// The origins whose pages may read the stream from elsewhere, separated by
    /// commas: `https://app.example.com`.
    #[arg(long, env = "GATEWAY_CORS_ORIGINS", default_value = "", value_name = "ORIGINS",
          value_parser = parse_origins, hide_default_value = true)]
    pub cors_origins: List<HeaderValue>,
    /// How many streams may be open; fewer where the limit on open files is
    /// lower.
    #[arg(long, env = "GATEWAY_MAX_STREAMS", default_value = "100000",
          value_parser = clap::value_parser!(u32).range(1..), value_name = "STREAMS")]
    pub max_streams: u32,
    /// How many streams one user may have open.
    #[arg(long, env = "GATEWAY_MAX_STREAMS_PER_USER", default_value = "32",
          value_parser = clap::value_parser!(u32).range(1..), value_name = "STREAMS")]
    pub max_streams_per_user: u32,
    /// How many connections may be open, asking for something or not; unless set,
    /// a tenth more than streams. One address may have a quarter of them.
    #[arg(long, env = "GATEWAY_MAX_CONNECTIONS", value_parser = clap::value_parser!(u32).range(1..),
          value_name = "CONNECTIONS")]
    pub max_connections: Option<u32>,
    /// Connection attempts a second of one address; twice that at once; 0 is no
    /// limit.
    #[arg(long, env = "GATEWAY_CONNECT_RATE", default_value = "100", value_name = "ATTEMPTS")]
    pub connect_rate: u32,
    /// Connection attempts a second of one user; twice that at once; 0 is no
    /// limit.
    #[arg(long, env = "GATEWAY_USER_CONNECT_RATE", default_value = "10", value_name = "ATTEMPTS")]
    pub user_connect_rate: u32,
    /// The proxies that are believed about where a request comes from,
    /// separated by commas; empty for none.
    #[arg(long, env = "GATEWAY_TRUSTED_PROXIES", default_value = "127.0.0.0/8,::1/128",
          value_parser = parse_networks, value_name = "NETWORKS")]
    pub trusted_proxies: List<IpNet>,
    /// How long a stream's socket may take nothing before it is closed.
    #[arg(long, env = "GATEWAY_STALL_TIMEOUT", default_value = "30s",
          value_parser = parse_duration, value_name = "DURATION")]
    pub stall_timeout: Duration,
    /// Whether rows are taken from notifications; when false, a notification is
    /// only a reason to read the log.
    #[arg(long, env = "GATEWAY_TRUST_PAYLOADS", default_value = "true",
          action = ArgAction::Set, value_parser = BoolishValueParser::new(), value_name = "BOOL")]
    pub trust_payloads: bool,
    /// How many events one stream may have waiting for its socket.
    #[arg(long, env = "GATEWAY_STREAM_BUFFER", default_value = "256",
          value_parser = clap::value_parser!(u32).range(1..=65_536), value_name = "EVENTS")]
    pub stream_buffer: u32,
    /// How many rows a reconnect replays; past that the client is told to fetch
    /// its list.
    #[arg(long, env = "GATEWAY_REPLAY_LIMIT", default_value = "1000",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000), value_name = "ROWS")]
    pub replay_limit: u32,
    /// How many connections to the database beside the one that listens.
    #[arg(long, env = "GATEWAY_POOL_SIZE", default_value = "8",
          value_parser = clap::value_parser!(u16).range(3..=1000), value_name = "CONNECTIONS")]
    pub pool_size: u16,
    /// How long events are kept. A client that was away for longer has to fetch its
    /// list again.
    #[arg(long, env = "GATEWAY_RETENTION", default_value = "7d",
          value_parser = parse_retention, value_name = "DURATION")]
    pub retention: Duration,
    /// How often the log is swept while streams are open, and the LISTEN
    /// connection probed.
    #[arg(long, env = "GATEWAY_SWEEP_INTERVAL", default_value = "1s",
          value_parser = parse_duration, value_name = "DURATION")]
    pub sweep_interval: Duration,
    /// When the triggers are to be quiet, and the log is swept often instead: never,
    /// auto (under load), or always (for applications that PREPARE TRANSACTION). The
    /// same for all gateways of a database.
    #[arg(long, env = "GATEWAY_QUIET", default_value = "auto", value_name = "MODE")]
    pub quiet: QuietMode,
    /// Transactions a second that write events, past which the triggers are quiet.
    #[arg(long, env = "GATEWAY_QUIET_ABOVE", default_value = "500",
          value_parser = clap::value_parser!(u32).range(2..), value_name = "TRANSACTIONS")]
    pub quiet_above: u32,
    /// How often the log is swept while they are.
    #[arg(long, env = "GATEWAY_QUIET_SWEEP_INTERVAL", default_value = "25ms",
          value_parser = parse_duration, value_name = "DURATION")]
    pub quiet_sweep_interval: Duration,
    /// How long a stop may take.
    #[arg(long, env = "GATEWAY_DRAIN", default_value = "5s",
          value_parser = parse_duration, value_name = "DURATION")]
    pub drain: Duration,
    /// How old a stream gets: it then ends, jittered, and its client reconnects,
    /// so that new replicas fill; without it, as old as its token.
    #[arg(long, env = "GATEWAY_MAX_STREAM_AGE", value_parser = parse_duration,
          value_name = "DURATION")]
    pub max_stream_age: Option<Duration>,
    /// Whether streams say no-transform, for proxies that would compress them
    /// and so hold them back.
    #[arg(long, env = "GATEWAY_NO_TRANSFORM", default_value = "false",
          action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true",
          require_equals = true, value_parser = BoolishValueParser::new(), value_name = "BOOL")]
    pub no_transform: bool,
    /// The certificate of the public port, the chain in PEM, the leaf first;
    /// without it the port speaks plain HTTP.
    #[arg(long, env = "GATEWAY_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's key, in PEM.
    #[arg(long, env = "GATEWAY_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// How many threads serve streams. One serves some hundred thousand events a
    /// second, and costs least; more are for TLS and for very many streams.
    #[arg(long, env = "GATEWAY_THREADS", default_value = "1",
          value_parser = clap::value_parser!(u16).range(1..=256), value_name = "THREADS")]
    pub threads: u16,
    /// How log lines are written; RUST_LOG says which.
    #[arg(long, env = "GATEWAY_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
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
