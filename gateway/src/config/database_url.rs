//! The libpq URL, as people paste it.

use std::time::Duration;

use tokio_postgres::config::SslMode;

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

pub(super) fn parse(url: &str) -> Result<tokio_postgres::Config, DatabaseUrlError> {
    let url = without_driver(url.trim());
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(DatabaseUrlError::Scheme);
    }
    check_ssl(&url)?;
    let mut config: tokio_postgres::Config =
        url.parse().map_err(|e: tokio_postgres::Error| DatabaseUrlError::Invalid(reason(&e)))?;
    if config.get_hosts().is_empty() {
        return Err(DatabaseUrlError::Host);
    }
    if config.get_ssl_mode() == SslMode::Require {
        return Err(DatabaseUrlError::Tls("sslmode=require".into()));
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
        .keepalives_retries(KEEPALIVE_RETRIES)
        // Only the primary can LISTEN; a list of hosts may hold standbys.
        .target_session_attrs(tokio_postgres::config::TargetSessionAttrs::ReadWrite);
    Ok(config)
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

fn check_ssl(url: &str) -> Result<(), DatabaseUrlError> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let unsupported = match key {
            "sslmode" => !matches!(value, "disable" | "prefer"),
            "ssl" => value != "disable",
            key => key.starts_with("ssl"),
        };
        if unsupported {
            return Err(DatabaseUrlError::Tls(format!("{key}={value}")));
        }
    }
    Ok(())
}

/// The library's own message, without the `invalid configuration` in front.
fn reason(error: &tokio_postgres::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// Why a database URL is none. Never holds the URL: it may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
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
    /// TLS is not there yet.
    #[error("{0} asks for TLS to Postgres, which this version cannot do yet; use sslmode=disable")]
    Tls(String),
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
            let config = parse(url).unwrap();
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
            ("postgres://u:hunter2@db/app?sslmode=verify-full", "sslmode=verify-full"),
        ] {
            let error = parse(url).unwrap_err().to_string();
            assert!(error.contains(part), "{url}: {error}");
            assert!(!error.contains("hunter2"), "{url}: {error}");
        }
    }

    #[test]
    fn a_silent_connection_is_not_trusted_for_hours() {
        let config = parse("postgres://u@db/app").unwrap();
        assert_eq!(config.get_tcp_user_timeout(), Some(&TCP_USER_TIMEOUT));
        assert_eq!(config.get_keepalives_idle(), KEEPALIVE_IDLE);
    }
}
