//! The URL's options for TLS, with libpq's names and meanings.

use std::path::PathBuf;

use rustls::ClientConfig;
use tokio_postgres::config::SslMode;

use super::DatabaseUrlError;
use crate::tls::{self, Identity, Roots, TlsError, Trust};

/// libpq's words for it.
/// <https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-SSLMODE-STATEMENTS>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TlsMode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl TlsMode {
    pub(super) fn parse(value: &str) -> Option<Self> {
        Some(match value {
            "disable" => Self::Disable,
            // libpq would try without first; with is never worse.
            "allow" | "prefer" => Self::Prefer,
            // node-postgres' name for it: TLS, whatever the certificate.
            "require" | "no-verify" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return None,
        })
    }

    pub(super) fn transport(self) -> SslMode {
        match self {
            Self::Disable => SslMode::Disable,
            Self::Prefer => SslMode::Prefer,
            _ => SslMode::Require,
        }
    }
}

/// The options of the URL that tokio-postgres does not know.
#[derive(Debug, Default)]
pub(super) struct TlsOptions {
    pub(super) mode: Option<TlsMode>,
    pub(super) root: Option<String>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
}

/// libpq's word for the operating system's authorities.
const SYSTEM: &str = "system";

impl TlsOptions {
    pub(super) fn client_config(&self) -> Result<ClientConfig, DatabaseUrlError> {
        let identity = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                let identity = Identity::read(certificate, key);
                Some(identity.map_err(|error| file_error("sslcert, sslkey", &error))?)
            }
            (None, None) => None,
            _ => return Err(DatabaseUrlError::HalfIdentity),
        };
        let config = tls::client_config(self.trust()?, identity.as_ref());
        config.map_err(|error| file_error("sslmode", &error))
    }

    /// As libpq has it: a URL that names the system's authorities and no mode
    /// means the one mode in which they protect.
    pub(super) fn mode(&self) -> TlsMode {
        let is_system = self.root.as_deref() == Some(SYSTEM);
        self.mode.unwrap_or(if is_system { TlsMode::VerifyFull } else { TlsMode::Prefer })
    }

    fn trust(&self) -> Result<Trust, DatabaseUrlError> {
        let roots = match self.root.as_deref() {
            Some(SYSTEM) | None => None,
            Some(file) => {
                let roots = Roots::read(file.as_ref());
                Some(roots.map_err(|error| file_error("sslrootcert", &error))?)
            }
        };
        let is_system = self.root.as_deref() == Some(SYSTEM);
        Ok(match (self.mode(), roots) {
            (TlsMode::VerifyFull, Some(roots)) => Trust::Name(roots),
            (TlsMode::VerifyFull, None) => {
                let roots = Roots::system();
                Trust::Name(roots.map_err(|error| file_error("sslmode", &error))?)
            }
            // Anybody can have a certificate of theirs, in some name.
            (TlsMode::VerifyCa, None) => return Err(DatabaseUrlError::SystemRoots),
            (_, None) if is_system => return Err(DatabaseUrlError::SystemRoots),
            // As libpq has it: a URL that names an authority wants it asked.
            (TlsMode::VerifyCa | TlsMode::Require, Some(roots)) => Trust::Issuer(roots),
            (TlsMode::Disable | TlsMode::Prefer | TlsMode::Require, _) => Trust::Anybody,
        })
    }
}

fn file_error(parameters: &'static str, error: &TlsError) -> DatabaseUrlError {
    DatabaseUrlError::Tls { parameters, problem: error.without_file() }
}
