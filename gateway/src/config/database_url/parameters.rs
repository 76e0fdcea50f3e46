//! What stands behind the `?` of the URL: libpq's parameters, and those of the
//! driver that the application beside us uses.

use std::path::PathBuf;

use super::{
    DatabaseUrlError,
    tls_options::{TlsMode, TlsOptions},
};

/// The parameters of a URL, sorted by their use.
#[derive(Debug, Default)]
pub(super) struct Parameters {
    pub(super) tls: TlsOptions,
    /// For tokio-postgres, `key=value` as written.
    pub(super) passed_on: Vec<String>,
    /// The names of those that have no use here.
    pub(super) left_out: Vec<String>,
}

/// What tokio-postgres understands.
const PASSED_ON: [&str; 14] = [
    "application_name",
    "channel_binding",
    "connect_timeout",
    "dbname",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "load_balance_hosts",
    "options",
    "password",
    "port",
    "user",
];

/// What libpq understands and the gateway does not, and would connect
/// otherwise than meant without it.
/// <https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS>
const UNSUPPORTED: [(&str, &str); 18] = [
    ("passfile", "put the password into the URL, and the URL into DATABASE_URL_FILE"),
    ("service", "write the service's host, user and database into the URL"),
    ("servicefile", "write the service's host, user and database into the URL"),
    ("replication", "the gateway reads rows; remove it"),
    ("require_auth", "use channel_binding=require with sslmode=verify-full"),
    ("requirepeer", "use TCP with sslmode=verify-full"),
    ("requiressl", "use sslmode=require"),
    ("scram_client_key", "use a password"),
    ("scram_server_key", "use a password"),
    ("sslcrl", "a revoked certificate cannot be recognised; remove it"),
    ("sslcrldir", "a revoked certificate cannot be recognised; remove it"),
    ("sslpassword", "use a key that is not encrypted, readable by the gateway alone"),
    ("sslaccept", "use sslmode=verify-full instead of strict, sslmode=require otherwise"),
    ("sslidentity", "use sslcert and sslkey, both PEM"),
    ("sslcertmode", "without sslcert and sslkey no certificate is sent; remove it"),
    ("oauth_issuer", "use a password or a certificate"),
    ("oauth_client_id", "use a password or a certificate"),
    ("oauth_client_secret", "use a password or a certificate"),
];

/// What TLS knows better than the URL: the name is always sent (SNI), nothing
/// is compressed, 1.2 is the least version, and nothing is written about keys.
const HARMLESS_WITH_TLS: [&str; 3] = ["sslsni", "sslcompression", "sslkeylogfile"];

/// Names of parameters, ours and other drivers', that may be shown.
const KNOWN: [&str; 47] = [
    "application_name",
    "async_fallback",
    "binary_parameters",
    "charset",
    "command_timeout",
    "connection_limit",
    "currentSchema",
    "default_query_exec_mode",
    "encoding",
    "gssencmode",
    "gsslib",
    "krbsrvname",
    "max_inactive_connection_lifetime",
    "max_overflow",
    "pgbouncer",
    "pool",
    "pool_max_conns",
    "pool_min_conns",
    "pool_mode",
    "pool_size",
    "pool_timeout",
    "prepareThreshold",
    "prepared_statement_cache_size",
    "prepared_statements",
    "schema",
    "search_path",
    "server_settings",
    "serverVersion",
    "socket_timeout",
    "ssl",
    "ssl_ca_certs",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcert",
    "sslcompression",
    "sslkey",
    "sslkeylogfile",
    "sslmode",
    "sslnegotiation",
    "sslrootcert",
    "sslsni",
    "statement_cache_size",
    "statement_cache_capacity",
    "statement_cache_mode",
    "supa",
    "tls",
    "uselibpqcompat",
];

const TLS_MODES: &str = "sslmode is disable, prefer, require, verify-ca or verify-full";

impl Parameters {
    /// # Errors
    ///
    /// A parameter that it would be unsafe to leave out.
    pub(super) fn parse(query: &str) -> Result<Self, DatabaseUrlError> {
        let mut parameters = Self::default();
        let mut fallback_name = None;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or(DatabaseUrlError::NoValue)?;
            if key == "fallback_application_name" {
                fallback_name = Some(format!("application_name={value}"));
            } else {
                parameters.sort(key, value)?;
            }
        }
        let has_name = parameters.passed_on.iter().any(|p| p.starts_with("application_name="));
        parameters.passed_on.extend(fallback_name.filter(|_| !has_name));
        Ok(parameters)
    }

    fn sort(&mut self, key: &str, value: &str) -> Result<(), DatabaseUrlError> {
        let decoded = percent_encoding::percent_decode_str(value).decode_utf8_lossy();
        let unknown = |expected| DatabaseUrlError::Value { name: key.to_owned(), expected };
        match (key, decoded.as_ref()) {
            // The name that asyncpg and JDBC have for it, with a boolean besides.
            ("ssl", "true" | "1") => self.tls.mode = Some(TlsMode::Require),
            ("ssl", "false" | "0") => self.tls.mode = Some(TlsMode::Disable),
            ("sslmode" | "ssl", mode) => {
                self.tls.mode = Some(TlsMode::parse(mode).ok_or_else(|| unknown(TLS_MODES))?);
            }
            ("sslrootcert", file) => self.tls.root = Some(file.to_owned()),
            ("sslcert", file) => self.tls.certificate = Some(PathBuf::from(file)),
            ("sslkey", file) => self.tls.key = Some(PathBuf::from(file)),
            ("sslnegotiation", "postgres" | "direct") => self.pass_on(key, value),
            ("sslnegotiation", _) => return Err(unknown("it is postgres or direct")),
            ("ssl_min_protocol_version", "TLSv1" | "TLSv1.1" | "TLSv1.2")
            | ("ssl_max_protocol_version", "TLSv1.3" | "")
            | ("target_session_attrs", "any" | "read-write" | "primary")
            | ("client_encoding", "utf8" | "UTF8" | "utf-8" | "UTF-8" | "auto" | "unicode") => {}
            ("ssl_min_protocol_version" | "ssl_max_protocol_version", _) => {
                return Err(unknown("TLS 1.2 and 1.3 are spoken, whichever the server prefers"));
            }
            ("target_session_attrs", _) => {
                return Err(unknown(
                    "it is read-write, any or primary: only the primary can LISTEN",
                ));
            }
            ("client_encoding", _) => return Err(unknown("it is utf8")),
            ("gssencmode", "disable" | "prefer") => self.leave_out(key),
            ("gssencmode", _) => {
                return Err(unknown("it is disable: GSSAPI is not spoken; use sslmode instead"));
            }
            // The gateway sets its own, shorter than any sensible one.
            ("keepalives_count" | "keepalives_retries" | "tcp_user_timeout", _) => {}
            _ if PASSED_ON.contains(&key) => self.pass_on(key, value),
            _ => return self.sort_foreign(key),
        }
        Ok(())
    }

    fn sort_foreign(&mut self, key: &str) -> Result<(), DatabaseUrlError> {
        if let Some((name, advice)) = UNSUPPORTED.iter().find(|(name, _)| *name == key) {
            return Err(DatabaseUrlError::Unsupported { name: (*name).to_owned(), advice });
        }
        let lower = key.to_ascii_lowercase();
        let is_about_tls = lower.starts_with("ssl") || lower.starts_with("tls");
        if is_about_tls && !HARMLESS_WITH_TLS.contains(&key) {
            // Left out, a slip of the pen would take the protection away.
            return Err(DatabaseUrlError::Unsupported {
                name: printable(key),
                advice: "about TLS there are sslmode, sslrootcert, sslcert, sslkey and \
                         sslnegotiation, in small letters",
            });
        }
        self.leave_out(key);
        Ok(())
    }

    fn pass_on(&mut self, key: &str, value: &str) {
        self.passed_on.push(format!("{key}={value}"));
    }

    fn leave_out(&mut self, key: &str) {
        self.left_out.push(printable(key));
    }
}

/// A parameter's name as the log may show it. An unknown name is left out: it may be
/// a part of a password whose `&` was not escaped.
fn printable(key: &str) -> String {
    let is_known = KNOWN.iter().any(|known| known.eq_ignore_ascii_case(key));
    if is_known { key.to_owned() } else { "(an unknown name)".to_owned() }
}
