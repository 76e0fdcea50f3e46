//! The settings of the relay.

use std::{fmt, path::PathBuf, time::Duration};

use async_nats::ServerAddr;
use clap::ValueEnum;
use percent_encoding::percent_decode_str;

use super::{ConfigError, secret, values::parse_duration};
use crate::secret::Secret;

const RELAY: &str = "Many gateways behind one";

/// The settings of the relay, as written.
#[derive(Clone, Debug, clap::Args)]
pub struct RelaySettings {
    /// The URLs of the NATS servers over which one gateway tells the others what it hears from
    /// Postgres, separated by commas: `nats://nats:4222`.
    ///
    /// Unless set, each gateway listens to Postgres and sweeps the log itself, which is best for
    /// up to a handful. The servers need JetStream. User and password, or a token, may stand in
    /// the URL; `tls://` asks for TLS. No log line shows a URL.
    #[arg(long, env = "GATEWAY_RELAY", hide_env_values = true, value_name = "URLS",
          help_heading = RELAY)]
    pub relay: Option<Secret>,
    /// A file that holds the URLs of the relay.
    ///
    /// Set this or the URLs themselves, never both.
    #[arg(long, env = "GATEWAY_RELAY_FILE", value_name = "FILE", help_heading = RELAY)]
    pub relay_file: Option<PathBuf>,
    /// What this gateway does with a relay.
    ///
    /// One source at a time listens to Postgres and sweeps, and tells the relay; further ones
    /// stand by. Edges hear it and have the streams. `both` is an edge that stands by as a source;
    /// a `source` answers streams with 503.
    #[arg(long, env = "GATEWAY_RELAY_ROLE", default_value = "both", value_name = "ROLE",
          help_heading = RELAY)]
    pub relay_role: RelayRole,
    /// The name of the JetStream stream, and of its subject.
    ///
    /// Applications that share NATS servers each need another. A source makes the stream unless it
    /// is there; one that is there is left as it is. Letters, digits, `_` and `-`.
    #[arg(long, env = "GATEWAY_RELAY_STREAM", default_value = "notify_gateway",
          value_parser = parse_stream, value_name = "NAME", help_heading = RELAY)]
    pub relay_stream: String,
    /// Where NATS keeps what was told.
    ///
    /// What is lost there is read from the log, so `memory` is enough.
    #[arg(long, env = "GATEWAY_RELAY_STORAGE", default_value = "memory", value_name = "STORAGE",
          help_heading = RELAY)]
    pub relay_storage: RelayStorage,
    /// How long NATS keeps what was told.
    ///
    /// An edge that was cut off for longer has all of its streams read the log. From 10s to 24h.
    #[arg(long, env = "GATEWAY_RELAY_MAX_AGE", default_value = "2m",
          value_parser = parse_max_age, value_name = "DURATION", help_heading = RELAY)]
    pub relay_max_age: Duration,
    /// How much NATS keeps of what was told, in MiB.
    ///
    /// What is older is left out. At least 1.
    #[arg(long, env = "GATEWAY_RELAY_MAX_MIB", default_value = "256",
          value_parser = clap::value_parser!(u32).range(1..), value_name = "MIB",
          help_heading = RELAY)]
    pub relay_max_mib: u32,
    /// On how many servers of a NATS cluster it is kept.
    ///
    /// From 1 to 5.
    #[arg(long, env = "GATEWAY_RELAY_REPLICAS", default_value = "1",
          value_parser = clap::value_parser!(u8).range(1..=5), value_name = "SERVERS",
          help_heading = RELAY)]
    pub relay_replicas: u8,
    /// A credentials file of NATS (`.creds`), with a JWT and the seed of its NKey.
    #[arg(long, env = "GATEWAY_RELAY_CREDENTIALS_FILE", value_name = "FILE", help_heading = RELAY)]
    pub relay_credentials_file: Option<PathBuf>,
    /// A file that holds the seed of a user's NKey (`SU…`).
    #[arg(long, env = "GATEWAY_RELAY_NKEY_FILE", value_name = "FILE", help_heading = RELAY)]
    pub relay_nkey_file: Option<PathBuf>,
    /// The certificates in PEM by which the servers' certificates are verified.
    ///
    /// Unless set, those of the system.
    #[arg(long, env = "GATEWAY_RELAY_CA_FILE", value_name = "FILE", help_heading = RELAY)]
    pub relay_ca_file: Option<PathBuf>,
    /// The client certificate of this gateway, in PEM.
    #[arg(long, env = "GATEWAY_RELAY_CERT_FILE", value_name = "FILE", help_heading = RELAY)]
    pub relay_cert_file: Option<PathBuf>,
    /// The private key of the client certificate, in PEM.
    #[arg(long, env = "GATEWAY_RELAY_KEY_FILE", value_name = "FILE", help_heading = RELAY)]
    pub relay_key_file: Option<PathBuf>,
}

/// What a gateway does with a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RelayRole {
    /// Listens to Postgres, or stands by.
    Source,
    /// Has streams.
    Edge,
    /// Both.
    Both,
}

impl RelayRole {
    /// Whether it may become the source.
    pub fn is_source(self) -> bool {
        self != Self::Edge
    }

    /// Whether it has streams.
    pub fn is_edge(self) -> bool {
        self != Self::Source
    }
}

/// Where NATS keeps a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RelayStorage {
    /// In memory.
    Memory,
    /// In files.
    File,
}

/// The settings, checked.
#[derive(Clone, Debug)]
pub struct RelayConfig {
    /// Where the servers are.
    pub servers: Servers,
    /// What this gateway does.
    pub role: RelayRole,
    /// The stream and its subject.
    pub stream: String,
    /// Where it is kept.
    pub storage: RelayStorage,
    /// For how long.
    pub max_age: Duration,
    /// How much of it.
    pub max_bytes: i64,
    /// On how many servers.
    pub replicas: usize,
    /// How this gateway shows who it is.
    pub credentials: RelayCredentials,
    /// By what the servers' certificates are verified.
    pub ca_file: Option<PathBuf>,
    /// The client certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// URLs of NATS servers, which may hold a password.
#[derive(Clone)]
pub struct Servers(pub Vec<ServerAddr>);

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} servers", self.0.len())
    }
}

/// How a gateway shows NATS who it is.
#[derive(Clone, Debug)]
pub enum RelayCredentials {
    /// Not at all.
    None,
    /// By what a URL says.
    Password(String, Secret),
    /// Likewise: it says nothing but a token.
    Token(Secret),
    /// The text of a credentials file.
    File(Secret),
    /// The seed of an NKey.
    NKey(Secret),
}

impl RelaySettings {
    /// The relay, if there is one.
    ///
    /// # Errors
    ///
    /// The first setting that is wrong.
    pub fn config(self) -> Result<Option<RelayConfig>, ConfigError> {
        const RELAY: &str = "--relay (GATEWAY_RELAY, GATEWAY_RELAY_FILE)";
        let Some(urls) = secret(self.relay, self.relay_file.as_deref(), RELAY)? else {
            return Ok(None);
        };
        let urls = urls.expose().split(',').map(str::trim).filter(|url| !url.is_empty());
        // What is wrong with it could show a part of it.
        let servers = urls.map(|url| url.parse().map_err(|_| ConfigError::RelayUrl));
        let servers: Vec<ServerAddr> = servers.collect::<Result<_, _>>()?;
        if servers.is_empty() {
            return Err(ConfigError::RelayUrl);
        }
        let named = |file: Option<PathBuf>| file.filter(|file| !file.as_os_str().is_empty());
        let credentials = {
            const CREDENTIALS: &str = "--relay-credentials-file (GATEWAY_RELAY_CREDENTIALS_FILE)";
            const NKEY: &str = "--relay-nkey-file (GATEWAY_RELAY_NKEY_FILE)";
            let file = secret(None, self.relay_credentials_file.as_deref(), CREDENTIALS)?;
            let nkey = secret(None, self.relay_nkey_file.as_deref(), NKEY)?;
            match (file, nkey) {
                (Some(_), Some(_)) => return Err(ConfigError::RelayCredentials),
                (Some(file), None) => RelayCredentials::File(file),
                (None, Some(seed)) => {
                    RelayCredentials::NKey(Secret::new(seed.expose().trim().to_owned()))
                }
                (None, None) => of_urls(&servers),
            }
        };
        let readable = |setting: &'static str, file: Option<PathBuf>| match named(file) {
            None => Ok(None),
            Some(file) => match std::fs::read(&file) {
                Ok(_) => Ok(Some(file)),
                Err(source) => Err(ConfigError::File { setting, file, source }),
            },
        };
        const CA: &str = "--relay-ca-file (GATEWAY_RELAY_CA_FILE)";
        const CERTIFICATE: &str = "--relay-cert-file (GATEWAY_RELAY_CERT_FILE)";
        const KEY: &str = "--relay-key-file (GATEWAY_RELAY_KEY_FILE)";
        let ca_file = readable(CA, self.relay_ca_file)?;
        let certificate = readable(CERTIFICATE, self.relay_cert_file)?;
        let key = readable(KEY, self.relay_key_file)?;
        let identity = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (None, Some(_)) => {
                return Err(ConfigError::Missing {
                    setting: CERTIFICATE,
                    example: "/etc/ssl/certs/gateway.pem; --relay-key-file needs it",
                });
            }
            (Some(_), None) => {
                return Err(ConfigError::Missing {
                    setting: KEY,
                    example: "/etc/ssl/private/gateway.key; --relay-cert-file needs it",
                });
            }
        };
        Ok(Some(RelayConfig {
            servers: Servers(servers),
            role: self.relay_role,
            stream: self.relay_stream,
            storage: self.relay_storage,
            max_age: self.relay_max_age,
            max_bytes: i64::from(self.relay_max_mib) * 1024 * 1024,
            replicas: self.relay_replicas.into(),
            credentials,
            ca_file,
            identity,
        }))
    }
}

/// What the first URL says that says anything, as all clients of NATS read it.
fn of_urls(servers: &[ServerAddr]) -> RelayCredentials {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let said = servers.iter().find_map(|server| Some((server.username()?, server.password())));
    match said {
        None => RelayCredentials::None,
        Some((token, None)) => RelayCredentials::Token(Secret::new(decoded(token))),
        Some((user, Some(password))) => {
            RelayCredentials::Password(decoded(user), Secret::new(decoded(password)))
        }
    }
}

fn parse_max_age(s: &str) -> Result<Duration, String> {
    // A source says something each second.
    const LEAST: Duration = Duration::from_secs(10);
    let age = parse_duration(s)?;
    if age < LEAST { Err("at least 10s".to_owned()) } else { Ok(age) }
}

fn parse_stream(s: &str) -> Result<String, String> {
    const MAX_BYTES: usize = 32;
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if (1..=MAX_BYTES).contains(&s.len()) && s.bytes().all(is_allowed) {
        Ok(s.to_owned())
    } else {
        Err(format!("at most {MAX_BYTES} letters, digits, `_` and `-`"))
    }
}
