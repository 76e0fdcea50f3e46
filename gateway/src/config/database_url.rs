//! The libpq URL, as people paste it.
//!
//! No error and no warning made here shows a value of the URL: any part of it
//! may be a password, or the half of one that was not escaped.

mod escapes;
mod parameters;
mod tls_options;

use std::{sync::Arc, time::Duration};

use rustls::ClientConfig;
use tokio_postgres::config::{SslNegotiation, TargetSessionAttrs};

use parameters::Parameters;

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
    /// Which certificates of the server are believed; used when the server and
    /// `sslmode` want TLS.
    pub tls: Arc<ClientConfig>,
    /// The names of the URL's parameters that mean something to another driver
    /// and nothing here.
    pub left_out: Vec<String>,
}

/// Reads a URL.
///
/// # Errors
///
/// What is wrong with it, without a value of it.
pub(crate) fn parse(url: &str) -> Result<Database, DatabaseUrlError> {
    let url = without_driver(url.trim()).ok_or(DatabaseUrlError::Scheme)?;
    let (base, query) = escapes::split(&url)?;
    let Parameters { tls, passed_on, left_out } = Parameters::parse(query)?;
    let mut config = connection(base, &passed_on)?;
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
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    config.ssl_mode(tls.mode().transport());
    let mut client = tls.client_config()?;
    if config.get_ssl_negotiation() == SslNegotiation::Direct {
        // Without it the server hangs up.
        client.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    Ok(Database { config, tls: Arc::new(client), left_out })
}

/// `postgresql+asyncpg://…` is what stands in the environment of the
/// application beside us; SQLAlchemy's driver suffix means nothing here.
fn without_driver(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let name = scheme.split('+').next().unwrap_or(scheme);
    matches!(name, "postgres" | "postgresql").then(|| format!("{name}://{rest}"))
}

fn connection(
    base: &str,
    passed_on: &[String],
) -> Result<tokio_postgres::Config, DatabaseUrlError> {
    let query =
        if passed_on.is_empty() { String::new() } else { format!("?{}", passed_on.join("&")) };
    let parsed = format!("{base}{query}").parse();
    parsed.map_err(|error: tokio_postgres::Error| DatabaseUrlError::Invalid(reason(&error)))
}

/// The library's own message, without the `invalid configuration` in front. It
/// names parameters and shows no value.
fn reason(error: &tokio_postgres::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// Why a database URL cannot be used. Never holds a part of the URL but the
/// names of its parameters: it may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseUrlError {
    /// Another scheme, or none.
    #[error("a URL that starts with postgres:// or postgresql:// is needed")]
    Scheme,
    /// No host.
    #[error("the URL names no host, as in postgres://user@host:5432/database")]
    Host,
    /// A character that ends the password before its end.
    #[error(
        "the user or the password (all between :// and the last @) holds an unescaped {0}; \
         percent-encode it: in Python urllib.parse.quote(password, safe=\"\")"
    )]
    Unescaped(String),
    /// A parameter without a value.
    #[error(
        "a parameter of the URL has no =, as in ?sslmode=verify-full; an & inside a value is \
         written %26"
    )]
    NoValue,
    /// The parser of tokio-postgres refuses it.
    #[error("the URL is not valid: {0}")]
    Invalid(String),
    /// A parameter that would be unsafe or wrong to leave out.
    #[error("the URL's parameter {name} is not supported: {advice}")]
    Unsupported {
        /// Its name.
        name: String,
        /// What to do instead.
        advice: &'static str,
    },
    /// A parameter whose value has no meaning here.
    #[error("the URL's parameter {name} has a value that is not known; {expected}")]
    Value {
        /// Its name.
        name: String,
        /// The values that are known.
        expected: &'static str,
    },
    /// A certificate without its key, or the other way round.
    #[error("sslcert and sslkey are needed both, or neither")]
    HalfIdentity,
    /// Any server could have a certificate that would be believed.
    #[error(
        "with the system's certificate authorities only sslmode=verify-full makes sure of \
         anything; use that, or name the authority: sslrootcert=FILE"
    )]
    SystemRoots,
    /// A file named by the URL, which is not named again.
    #[error("the URL's parameter {parameters}: {problem}")]
    Tls {
        /// The parameters that name it.
        parameters: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio_postgres::config::SslMode;

    use super::*;

    #[test]
    fn the_url_of_the_application_beside_us_is_understood() {
        for url in [
            "postgres://u:p@db:5433/app",
            "postgresql://u:p@db:5433/app?sslmode=disable",
            "postgresql+asyncpg://u:p@db:5433/app",
            "postgresql+psycopg2://u:p@db:5433/app\n",
        ] {
            let database = parse(url).unwrap();
            assert_eq!(database.config.get_ports(), [5433], "{url}");
            assert_eq!(database.config.get_dbname(), Some("app"), "{url}");
            assert!(database.left_out.is_empty(), "{url}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (url, part) in [
            ("mysql://u:hunter2@db/app", "starts with postgres://"),
            ("postgresfoo://u:hunter2@db/app", "starts with postgres://"),
            ("", "starts with postgres://"),
            ("postgres://", "names no host"),
            ("postgres://u:hunter2@db:port/app", "not valid"),
            ("postgres://u:hunter2@db/app?hunter2", "no ="),
            ("postgres://u:hunter2@db/app?sslmode=hunter2", "sslmode"),
            ("postgres://u:hunter2@db/app?sslkeyword=hunter2", "an unknown name"),
            ("postgres://u:hunter2@db/app?SSLMODE=hunter2", "SSLMODE"),
            ("postgres://u:hunter2@db/app?sslpassword=hunter2", "sslpassword"),
            ("postgres://u:hunter2@db/app?service=hunter2", "service"),
            ("postgres://u:hunter2@db/app?gssencmode=require", "gssencmode"),
            ("postgres://u:hunter2@db/app?connect_timeout=hunter2", "connect_timeout"),
            ("postgres://u:hunter2@db/app?target_session_attrs=standby", "primary"),
            ("postgres://u:hunter2@db/app?sslcrl=hunter2", "sslcrl"),
            ("postgres://u:hunter2@db/app?sslcert=/a.pem", "sslkey"),
            ("postgres://u:hunter2@db/app?sslmode=verify-ca", "verify-full"),
            ("postgres://u:hunter2@db/app?sslmode=require&sslrootcert=system", "verify-full"),
            ("postgres://u:hunter2@db/app?sslmode=prefer&sslrootcert=system", "verify-full"),
            ("postgres://u:hunter2@db/app?sslmode=verify-full&sslrootcert=/hunter2", "sslrootcert"),
            ("postgres://u:hunter2@db/app?sslrootcert=/hunter2", "cannot be read"),
        ] {
            let error = parse(url).unwrap_err();
            let (shown, debug) = (error.to_string(), format!("{error:?}"));
            assert!(shown.contains(part), "{url}: {shown}");
            assert!(!shown.contains("hunter2") && !debug.contains("hunter2"), "{url}: {debug}");
        }
    }

    #[test]
    fn the_options_for_tls_are_taken_out_and_the_others_stay() {
        for (query, mode) in [
            ("", SslMode::Prefer),
            ("?sslmode=disable", SslMode::Disable),
            ("?ssl=disable&application_name=bell", SslMode::Disable),
            ("?ssl=false", SslMode::Disable),
            ("?application_name=bell&sslmode=prefer", SslMode::Prefer),
            ("?fallback_application_name=bell", SslMode::Prefer),
            ("?sslmode=require", SslMode::Require),
            ("?sslmode=no-verify", SslMode::Require),
            ("?ssl=require", SslMode::Require),
            ("?ssl=true", SslMode::Require),
            ("?sslrootcert=system", SslMode::Require),
        ] {
            let database = parse(&format!("postgres://u@db/app{query}")).unwrap();
            assert_eq!(database.config.get_ssl_mode(), mode, "{query}");
            let name = if query.contains("bell") { "bell" } else { "notify-gateway" };
            assert_eq!(database.config.get_application_name(), Some(name), "{query}");
            assert!(database.left_out.is_empty(), "{query}");
        }
    }

    #[test]
    fn what_other_drivers_are_told_is_left_out_and_named() {
        let url = "postgresql+asyncpg://u:p@db/app?pgbouncer=true&schema=public&\
                   connection_limit=5&pool_timeout=0&prepared_statement_cache_size=0&\
                   statement_cache_size=0&prepared_statements=false&sslsni=1&\
                   gssencmode=disable&async_fallback=true&uselibpqcompat=true&\
                   connect_timeout=3";
        let database = parse(url).unwrap();
        assert_eq!(
            database.left_out,
            [
                "pgbouncer",
                "schema",
                "connection_limit",
                "pool_timeout",
                "prepared_statement_cache_size",
                "statement_cache_size",
                "prepared_statements",
                "sslsni",
                "gssencmode",
                "async_fallback",
                "uselibpqcompat",
            ]
        );
        assert_eq!(database.config.get_connect_timeout(), Some(&Duration::from_secs(3)));
    }

    #[test]
    fn a_silent_connection_is_not_trusted_for_hours() {
        let config = parse("postgres://u@db/app").unwrap().config;
        assert_eq!(config.get_tcp_user_timeout(), Some(&TCP_USER_TIMEOUT));
        assert_eq!(config.get_keepalives_idle(), KEEPALIVE_IDLE);
    }

    #[test]
    fn what_ends_a_password_too_early_is_named_with_its_escape() {
        for (character, escape) in
            [('@', "%40"), ('#', "%23"), ('/', "%2F"), ('?', "%3F"), (':', "%3A"), ('%', "%25")]
        {
            let url = format!("postgres://u:hunter2{character}hunter3@db/app");
            let error = parse(&url).unwrap_err().to_string();
            assert!(error.contains(&format!("\"{character}\" ({escape})")), "{url}: {error}");
            assert!(!error.contains("hunter"), "{error}");
            let escaped = format!("postgres://u:hunter2{escape}hunter3@db/app");
            let password = format!("hunter2{character}hunter3");
            let config = parse(&escaped).unwrap().config;
            assert_eq!(config.get_password(), Some(password.as_bytes()));
        }
    }

    proptest! {
        #[test]
        fn a_password_is_whole_or_its_url_is_refused_and_it_is_never_shown(
            word in "[A-Z]{6}", middle in "[@#/?:%&=+ a-z0-9]{0,4}", name in "[a-z_]{1,12}",
        ) {
            let password = format!("{word}{middle}{word}");
            for url in [
                format!("postgres://u:{password}@db:5432/app"),
                format!("postgres://u:{password}@db:5432/app?sslmode=require&{name}=x"),
                format!("postgres://u:pw@db:5432/app?{name}={password}"),
                format!("postgres://u:pw@db:5432/app?ssl{name}={password}"),
            ] {
                match parse(&url) {
                    Ok(database) => {
                        prop_assert!(database.left_out.iter().all(|name| !name.contains(&word)));
                        if url.contains("u:pw@") {
                            continue;
                        }
                        let whole = percent_encoding::percent_decode_str(&password);
                        prop_assert_eq!(
                            database.config.get_password(),
                            Some(&whole.collect::<Vec<u8>>()[..])
                        );
                    }
                    Err(error) => {
                        let shown = format!("{error} {error:?}");
                        prop_assert!(!shown.contains(&word), "{}", shown);
                    }
                }
            }
        }

        #[test]
        fn a_password_that_is_escaped_arrives_as_it_is(password in "\\PC{1,20}") {
            let escaped =
                percent_encoding::utf8_percent_encode(&password, percent_encoding::NON_ALPHANUMERIC);
            let config = parse(&format!("postgres://u:{escaped}@db/app")).unwrap().config;
            prop_assert_eq!(config.get_password(), Some(password.as_bytes()));
        }
    }
}
