//! TLS as a client: whom to believe, and as whom to come.

use std::sync::Arc;

use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, SignatureScheme, WantsVerifier,
    client::{
        ResolvesClientCert, WantsClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
    sign::CertifiedKey,
};

use super::{Identity, Roots, TlsError, provider};

/// Whom a client believes to be the server.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Whoever answers: the connection is secret, and from whom it is, nobody
    /// knows.
    Anybody,
    /// Whoever has a certificate from one of these.
    Issuer(Roots),
    /// Who has a certificate from one of these in the name that was asked for.
    Name(Roots),
}

/// A client of TLS 1.2 and 1.3 that believes `trust`, and shows `identity` if
/// it is asked who it is.
///
/// # Errors
///
/// rustls' own; it has no reason to.
pub fn client_config(trust: Trust, identity: Option<&Identity>) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider());
    let builder = trusting(builder.with_safe_default_protocol_versions()?, trust);
    Ok(match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => builder.with_client_cert_resolver(Arc::new(Always(identity.clone()))),
    })
}

fn trusting(
    builder: ConfigBuilder<ClientConfig, WantsVerifier>,
    trust: Trust,
) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    let issuers = match trust {
        Trust::Name(roots) => return builder.with_root_certificates(roots.0),
        Trust::Issuer(roots) => Some(roots),
        Trust::Anybody => None,
    };
    let verifier = Nameless { issuers, provider: provider() };
    builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
}

/// Shows the same certificate whoever asks: which authorities a server names is
/// its advice, and some name none that is there.
#[derive(Debug)]
struct Always(Identity);

impl ResolvesClientCert for Always {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _sigschemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        Some(self.0.certified_key())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// libpq's `require` and `verify-ca`: the name is not looked at.
/// <https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-SSLMODE-STATEMENTS>
#[derive(Debug)]
struct Nameless {
    issuers: Option<Roots>,
    provider: Arc<CryptoProvider>,
}

impl Nameless {
    /// Whoever is believed whatever the certificate says need not prove that it
    /// is theirs; and Postgres servers have been given certificates of X.509 v1,
    /// which cannot be read here.
    fn verify(
        &self,
        verify: impl FnOnce(&WebPkiSupportedAlgorithms) -> Result<HandshakeSignatureValid, Error>,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self.issuers {
            None => Ok(HandshakeSignatureValid::assertion()),
            Some(_) => verify(&self.provider.signature_verification_algorithms),
        }
    }
}

impl ServerCertVerifier for Nameless {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(Roots(roots)) = &self.issuers {
            verify_server_cert_signed_by_trust_anchor(
                &ParsedCertificate::try_from(end_entity)?,
                roots,
                intermediates,
                now,
                self.provider.signature_verification_algorithms.all,
            )?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(|algorithms| verify_tls12_signature(message, cert, dss, algorithms))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(|algorithms| verify_tls13_signature(message, cert, dss, algorithms))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
