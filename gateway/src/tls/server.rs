//! TLS as a server: our own port.

use std::{fmt, io, sync::Arc};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs::Ticketer,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{Identity, TlsError, provider};

/// Speaks TLS 1.2 and 1.3 with the certificate of the settings, and offers HTTP/2
/// and HTTP/1.1 (ALPN, RFC 7301).
#[derive(Clone)]
pub struct Acceptor {
    acceptor: TlsAcceptor,
    shown: Arc<Shown>,
}

impl Acceptor {
    /// Shows this certificate.
    ///
    /// # Errors
    ///
    /// An error of rustls, which does not occur with these arguments.
    pub fn new(identity: &Identity) -> Result<Self, TlsError> {
        let shown = Arc::new(Shown(ArcSwap::new(identity.certified_key())));
        let resolver: Arc<dyn ResolvesServerCert> = Arc::<Shown>::clone(&shown);
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // A client that comes back shows its ticket, and then no signature is
        // needed, which would be most of the work in a storm of reconnects.
        config.ticketer = Ticketer::new()?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), shown })
    }

    /// Shows this one, from the next handshake on.
    pub fn replace(&self, identity: &Identity) {
        self.shown.0.store(identity.certified_key());
    }

    /// Does the handshake.
    ///
    /// # Errors
    ///
    /// The client does not speak TLS, or no version or cipher that both know.
    pub async fn accept<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.acceptor.accept(stream).await
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Acceptor(…)")
    }
}

/// The certificate that is shown now, whatever name is asked for.
#[derive(Debug)]
struct Shown(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}
