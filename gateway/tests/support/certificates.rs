//! A certificate authority for one test, and what it signs.

use std::{fs, net::SocketAddr, path::PathBuf, sync::Arc};

use notify_gateway::tls::{self, Roots, Trust};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};

pub(crate) struct Authority {
    directory: TempDir,
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// Two PEM files.
pub(crate) struct Files {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority of the tests");
        let pem = params.self_signed(&key).unwrap().pem();
        Self { directory: tempfile::tempdir().unwrap(), issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for `name`, which is also its common name, and its key.
    pub(crate) fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// The same in files; the same files for the same `stem`.
    pub(crate) fn files(&self, stem: &str, name: &str) -> Files {
        let (certificate, key) = self.sign(name);
        Files {
            certificate: self.write(&format!("{stem}.pem"), &certificate),
            key: self.write(&format!("{stem}.key"), &key),
        }
    }

    /// Ends TLS for `name` and passes on to `target` what was inside.
    pub(crate) async fn terminate(&self, name: &str, target: SocketAddr) -> SocketAddr {
        let Files { certificate, key } = self.files("terminated", name);
        let certificate = CertificateDer::from_pem_file(certificate).unwrap();
        let key = PrivateKeyDer::from_pem_file(key).unwrap();
        let config = ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![certificate], key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(mut client) = acceptor.accept(client).await else { continue };
                let mut server = TcpStream::connect(target).await.unwrap();
                tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
            }
        });
        address
    }

    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// The authority's own certificate, in a file.
    pub(crate) fn root(&self) -> String {
        self.write("root.pem", &self.pem)
    }

    pub(crate) fn write(&self, name: &str, content: &str) -> String {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// Where [`Authority::write`] writes.
    pub(crate) fn path(&self, name: &str) -> String {
        let path: PathBuf = self.directory.path().join(name);
        path.to_str().unwrap().to_owned()
    }

    /// A client that believes this authority alone.
    pub(crate) fn client(&self, protocols: &[&str]) -> ClientConfig {
        let roots = Roots::read(self.root().as_ref()).unwrap();
        let mut config = tls::client_config(Trust::Name(roots), None).unwrap();
        config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        config
    }

    /// A connection to `address`, which has to be `localhost`.
    pub(crate) async fn connect(
        &self,
        address: std::net::SocketAddr,
        protocols: &[&str],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(self.client(protocols))).connect(name, stream).await
    }
}
