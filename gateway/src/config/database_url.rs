//! The libpq URL, as people paste it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use rustls::ClientConfig;
use tokio_postgres::config::{SslMode, SslNegotiation};

use crate::tls::{self, Identity, Roots, TlsError, Trust};

/// How long one attempt to connect may take: a black-holed address gives no
/// answer at all, and the backoff should be what spaces the attempts.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long Postgres may leave our bytes unacknowledged, and how long a silent
/// connection is trusted before the kernel asks. The defaults are never and two
/// hours: a path dropped by a firewall would look alive for that long.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(15);
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;

/// Where the database is and how to speak to it.
#[derive(Clone, Debug)]
pub struct Database {
    /// Hosts, user, password, database, time-outs.
    pub config: tokio_postgres::Config,
    /// Whom to believe that it is the server; used when the server and
    /// `sslmode` want TLS.
    pub tls: Arc<ClientConfig>,
}

pub(super) fn parse(url: &str) -> Result<Database, DatabaseUrlError> {
    let url = without_driver(url.trim());
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(DatabaseUrlError::Scheme);
    }
    let (url, tls) = split_tls(&url)?;
    let mut config: tokio_postgres::Config =
        url.parse().map_err(|e: tokio_postgres::Error| DatabaseUrlError::Invalid(reason(&e)))?;
    if config.get_hosts().is_empty() {
        return Err(DatabaseUrlError::Host);
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    if config.get_application_name().is_none() {
        config.application_name("notify-gateway");
    }
    config
        .tcp_user_timeout(TCP_USER_TIMEOUT)
        .keepalives_idle(KEEPALIVE_IDLE)
        .keepalives_interval(KEEPALIVE_INTERVAL)
        .keepalives_retries(KEEPALIVE_RETRIES);
    // Only the primary can LISTEN, and a list of hosts may hold standbys. A single host is not
    // asked, because a role whose transactions are read-only by default would look like one.
    if config.get_hosts().len() > 1 {
        config.target_session_attrs(tokio_postgres::config::TargetSessionAttrs::ReadWrite);
    }
    config.ssl_mode(tls.mode().transport());
    let mut client = tls.client_config()?;
    if config.get_ssl_negotiation() == SslNegotiation::Direct {
        // Without it the server hangs up.
        client.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    Ok(Database { config, tls: Arc::new(client) })
}

/// `postgresql+asyncpg://…` is what stands in the environment of the
/// application beside us; SQLAlchemy's driver suffix means nothing here.
fn without_driver(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) if scheme.starts_with("postgres") => {
            let scheme = scheme.split('+').next().unwrap_or(scheme);
            format!("{scheme}://{rest}")
        }
        _ => url.to_owned(),
    }
}

/// libpq's words for it.
/// <https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-SSLMODE-STATEMENTS>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TlsMode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl TlsMode {
    fn parse(value: &str) -> Option<Self> {
        Some(match value {
            "disable" => Self::Disable,
            // libpq would try without first; with is never worse.
            "allow" | "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return None,
        })
    }

    fn transport(self) -> SslMode {
        match self {
            Self::Disable => SslMode::Disable,
            Self::Prefer => SslMode::Prefer,
            _ => SslMode::Require,
        }
    }
}

/// The options of the URL that its parser does not know.
#[derive(Debug, Default)]
struct TlsOptions {
    mode: Option<TlsMode>,
    root: Option<String>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

/// The URL without its TLS options, and these.
fn split_tls(url: &str) -> Result<(String, TlsOptions), DatabaseUrlError> {
    let Some((base, query)) = url.split_once('?') else {
        return Ok((url.to_owned(), TlsOptions::default()));
    };
    let mut tls = TlsOptions::default();
    let mut rest = Vec::new();
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decoded = percent_encoding::percent_decode_str(value).decode_utf8_lossy();
        let value = decoded.as_ref();
        let unknown = || DatabaseUrlError::Tls(format!("{key}={value}"));
        match key {
            // asyncpg's name for it, which has a boolean besides.
            "ssl" if value == "true" => tls.mode = Some(TlsMode::Require),
            "sslmode" | "ssl" => tls.mode = Some(TlsMode::parse(value).ok_or_else(unknown)?),
            "sslrootcert" => tls.root = Some(value.to_owned()),
            "sslcert" => tls.certificate = Some(value.into()),
            "sslkey" => tls.key = Some(value.into()),
            "sslnegotiation" => rest.push(pair),
            key if key.starts_with("ssl") => return Err(unknown()),
            _ => rest.push(pair),
        }
    }
    let rest = rest.join("&");
    let url = if rest.is_empty() { base.to_owned() } else { format!("{base}?{rest}") };
    Ok((url, tls))
}

impl TlsOptions {
    fn client_config(&self) -> Result<ClientConfig, DatabaseUrlError> {
        let identity = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => Some(Identity::read(certificate, key)?),
            (None, None) => None,
            _ => return Err(DatabaseUrlError::HalfIdentity),
        };
        Ok(tls::client_config(self.trust()?, identity.as_ref())?)
    }

    /// As libpq has it: who names the system's authorities and nothing else
    /// means the one mode in which they are worth anything.
    fn mode(&self) -> TlsMode {
        let is_system = self.root.as_deref() == Some(SYSTEM);
        self.mode.unwrap_or(if is_system { TlsMode::VerifyFull } else { TlsMode::Prefer })
    }

    fn trust(&self) -> Result<Trust, DatabaseUrlError> {
        let roots = match self.root.as_deref() {
            Some(SYSTEM) | None => None,
            Some(file) => Some(Roots::read(file.as_ref())?),
        };
        let is_system = self.root.as_deref() == Some(SYSTEM);
        Ok(match (self.mode(), roots) {
            (TlsMode::VerifyFull, Some(roots)) => Trust::Name(roots),
            (TlsMode::VerifyFull, None) => Trust::Name(Roots::system()?),
            // Anybody can have a certificate of theirs, in some name.
            (TlsMode::VerifyCa, None) => return Err(DatabaseUrlError::SystemRoots),
            (_, None) if is_system => return Err(DatabaseUrlError::SystemRoots),
            // As libpq has it: who names an authority wants it asked.
            (TlsMode::VerifyCa | TlsMode::Require, Some(roots)) => Trust::Issuer(roots),
            (TlsMode::Disable | TlsMode::Prefer | TlsMode::Require, _) => Trust::Anybody,
        })
    }
}

/// libpq's word for the operating system's authorities.
const SYSTEM: &str = "system";

/// The library's own message, without the `invalid configuration` in front.
fn reason(error: &tokio_postgres::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// Why a database URL is none. Never holds the URL: it may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseUrlError {
    /// Another scheme, or none.
    #[error("a URL that starts with postgres:// or postgresql:// is needed")]
    Scheme,
    /// No host.
    #[error("the URL names no host, as in postgres://user@host:5432/database")]
    Host,
    /// The parser's own words.
    #[error("the URL is not valid: {0}")]
    Invalid(String),
    /// An option for TLS that is not known.
    #[error(
        "{0} is not known here; there are sslmode=disable, prefer, require, verify-ca and \
         verify-full, sslrootcert, sslcert and sslkey"
    )]
    Tls(String),
    /// A certificate without its key, or the other way round.
    #[error("sslcert and sslkey are needed both, or neither")]
    HalfIdentity,
    /// The name of a server that anybody may be.
    #[error(
        "with the system's certificate authorities only sslmode=verify-full makes sure of \
         anything; use that, or name the authority: sslrootcert=FILE"
    )]
    SystemRoots,
    /// A file named by the URL.
    #[error(transparent)]
    Identity(#[from] TlsError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_of_the_application_beside_us_is_understood() {
        for url in [
            "postgres://u:p@db:5433/app",
            "postgresql://u:p@db:5433/app?sslmode=disable",
            "postgresql+asyncpg://u:p@db:5433/app",
            "postgresql+psycopg2://u:p@db:5433/app\n",
        ] {
            let config = parse(url).unwrap().config;
            assert_eq!(config.get_ports(), [5433], "{url}");
            assert_eq!(config.get_dbname(), Some("app"), "{url}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (url, part) in [
            ("mysql://u:hunter2@db/app", "starts with postgres://"),
            ("", "starts with postgres://"),
            ("postgres://", "names no host"),
            ("postgres://u:hunter2@db:port/app", "not valid"),
            ("postgres://u:hunter2@db/app?nonsense=1", "not valid"),
            ("postgres://u:hunter2@db/app?sslmode=on", "sslmode=on"),
            ("postgres://u:hunter2@db/app?sslcrl=x", "sslcrl=x"),
            ("postgres://u:hunter2@db/app?sslcert=/a.pem", "sslkey"),
            ("postgres://u:hunter2@db/app?sslmode=verify-ca", "verify-full"),
            ("postgres://u:hunter2@db/app?sslmode=require&sslrootcert=system", "verify-full"),
            ("postgres://u:hunter2@db/app?sslmode=prefer&sslrootcert=system", "verify-full"),
            ("postgres://u:hunter2@db/app?sslmode=verify-full&sslrootcert=/no", "/no"),
            ("postgres://u:hunter2@db/app?sslrootcert=/no", "/no"),
        ] {
            let error = parse(url).unwrap_err().to_string();
            assert!(error.contains(part), "{url}: {error}");
            assert!(!error.contains("hunter2"), "{url}: {error}");
        }
    }

    #[test]
    fn the_options_for_tls_are_taken_out_and_the_others_stay() {
        for (query, mode) in [
            ("", SslMode::Prefer),
            ("?sslmode=disable", SslMode::Disable),
            ("?ssl=disable&application_name=bell", SslMode::Disable),
            ("?application_name=bell&sslmode=prefer", SslMode::Prefer),
            ("?sslmode=require", SslMode::Require),
            ("?ssl=require", SslMode::Require),
            ("?ssl=true", SslMode::Require),
            ("?sslrootcert=system", SslMode::Require),
        ] {
            let config = parse(&format!("postgres://u@db/app{query}")).unwrap().config;
            assert_eq!(config.get_ssl_mode(), mode, "{query}");
            let name = if query.contains("bell") { "bell" } else { "notify-gateway" };
            assert_eq!(config.get_application_name(), Some(name), "{query}");
        }
    }

    #[test]
    fn a_silent_connection_is_not_trusted_for_hours() {
        let config = parse("postgres://u@db/app").unwrap().config;
        assert_eq!(config.get_tcp_user_timeout(), Some(&TCP_USER_TIMEOUT));
        assert_eq!(config.get_keepalives_idle(), KEEPALIVE_IDLE);
    }
}
