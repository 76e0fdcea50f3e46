//! Certificates and keys in PEM → rustls: for our own port, for Postgres, for
//! the host of a key set.

mod certificate;
mod client;
mod server;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    Error, RootCertStore,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
    sign::CertifiedKey,
};

pub use client::{Trust, client_config};
pub use server::Acceptor;

/// The one cryptographic library of the process.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// A certificate chain and the key it was made for.
#[derive(Clone)]
pub struct Identity(Arc<CertifiedKey>);

impl Identity {
    /// Reads both from PEM files: the chain with the leaf first, and a PKCS#8,
    /// PKCS#1 or SEC1 key.
    ///
    /// # Errors
    ///
    /// See [`TlsError`].
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let chain = certificates(certificate)?;
        let private = PrivateKeyDer::from_pem_file(key).map_err(|error| pem_error(error, key))?;
        let certified = CertifiedKey::from_der(chain, private, &provider());
        certified.map(|certified| Self(Arc::new(certified))).map_err(|source| TlsError::Identity {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            problem: source.into(),
        })
    }

    fn certified_key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(…)")
    }
}

/// The certificates that are believed: those of authorities, and in a file also
/// a server's own.
#[derive(Clone, Debug)]
pub struct Roots {
    store: Arc<RootCertStore>,
    /// A server may show one of these itself, as one that was made by
    /// `openssl req -x509` does. Those of the system are authorities' alone.
    named: Arc<Vec<CertificateDer<'static>>>,
}

impl Roots {
    /// The authorities of the operating system, or of `SSL_CERT_FILE` and `SSL_CERT_DIR`.
    ///
    /// # Errors
    ///
    /// The system has no authorities.
    pub fn system() -> Result<Self, TlsError> {
        let found = rustls_native_certs::load_native_certs();
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(found.certs);
        if store.is_empty() {
            return Err(TlsError::NoSystemRoots);
        }
        Ok(Self { store: Arc::new(store), named: Arc::default() })
    }

    /// The certificates of a PEM file.
    ///
    /// # Errors
    ///
    /// See [`TlsError`].
    pub fn read(file: &Path) -> Result<Self, TlsError> {
        let mut store = RootCertStore::empty();
        let named = certificates(file)?;
        for certificate in &named {
            let added = store.add(certificate.clone());
            added.map_err(|source| TlsError::File {
                file: file.to_owned(),
                problem: FileProblem::Certificate(source.into()),
            })?;
        }
        Ok(Self { store: Arc::new(store), named: Arc::new(named) })
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = |error| pem_error(error, file);
    let chain = CertificateDer::pem_file_iter(file).map_err(read)?;
    let chain = chain.collect::<Result<Vec<_>, _>>().map_err(read)?;
    if chain.is_empty() { Err(pem_error(pem::Error::NoItemsFound, file)) } else { Ok(chain) }
}

fn pem_error(error: pem::Error, file: &Path) -> TlsError {
    let problem = match error {
        pem::Error::Io(source) => FileProblem::Io(source),
        pem::Error::NoItemsFound => FileProblem::Nothing,
        source => FileProblem::Pem(source),
    };
    TlsError::File { file: file.to_owned(), problem }
}

/// What is wrong with a certificate or a key, and in which file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One file.
    #[error("{} {problem}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        problem: FileProblem,
    },
    /// Two files that are used together.
    #[error("{} and {} cannot be used together: {problem}", certificate.display(), key.display())]
    Identity {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// What is wrong with them.
        problem: Box<Error>,
    },
    /// rustls does not find what it needs in itself.
    #[error(transparent)]
    Library(#[from] Error),
    /// There is no authority whose certificates could be believed.
    #[error(
        "this system has no certificate authorities (install ca-certificates, or set SSL_CERT_FILE)"
    )]
    NoSystemRoots,
}

impl TlsError {
    /// What is wrong, without the file's name: what a URL says must not be
    /// printed.
    pub(crate) fn without_file(&self) -> String {
        match self {
            Self::File { problem, .. } => format!("the file {problem}"),
            Self::Identity { problem, .. } => {
                format!("the certificate and the key cannot be used together: {problem}")
            }
            Self::Library(_) | Self::NoSystemRoots => self.to_string(),
        }
    }
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum FileProblem {
    /// The system does not let us read it.
    #[error("cannot be read: {0}")]
    Io(std::io::Error),
    /// It holds something else.
    #[error("holds no PEM block of the kind that is needed (BEGIN CERTIFICATE or BEGIN … KEY)")]
    Nothing,
    /// It is damaged.
    #[error("is not valid PEM: {0}")]
    Pem(pem::Error),
    /// It holds a certificate that cannot be read, perhaps one of X.509 version 1.
    #[error("holds a certificate that cannot be read as X.509 version 3: {0}")]
    Certificate(Box<Error>),
}
