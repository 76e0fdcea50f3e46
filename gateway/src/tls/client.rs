//! TLS as a client: which servers are believed, and what they are shown.

use std::sync::Arc;

use http::Uri;
use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, SignatureScheme, WantsVerifier,
    client::{
        ResolvesClientCert, WantsClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
    sign::CertifiedKey,
};

use super::{Identity, Roots, TlsError, certificate::Parsed, provider};

/// Which servers a client believes.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Any that answers: the connection is encrypted, and nobody knows to whom.
    Anybody,
    /// Those with a certificate from one of these, or with one of these.
    Issuer(Roots),
    /// The same, where the certificate is in the name that was asked for.
    Name(Roots),
}

impl Trust {
    /// For requests to `url`: https is checked by the authorities of the operating system, and
    /// there is nothing to check without it.
    ///
    /// # Errors
    ///
    /// As [`Roots::system`].
    pub fn of(url: &Uri) -> Result<Self, TlsError> {
        let is_https = url.scheme_str() == Some("https");
        Ok(if is_https { Self::Name(Roots::system()?) } else { Self::Anybody })
    }
}

/// A client of TLS 1.2 and 1.3 that believes `trust`, and shows `identity` if
/// it is asked who it is.
///
/// # Errors
///
/// An error of rustls, which does not occur with these arguments.
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
        Trust::Name(roots) => Some((roots, Names::Checked)),
        Trust::Issuer(roots) => Some((roots, Names::Ignored)),
        Trust::Anybody => None,
    };
    let verifier = Verifier { issuers, provider: provider() };
    builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
}

/// Shows the same certificate to every server: the authorities that a server
/// names are advice, and some servers name one that issued nothing here.
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

/// Whether a certificate has to be in the name that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names {
    Checked,
    Ignored,
}

/// Believes what libpq's `require`, `verify-ca` and `verify-full` believe.
/// <https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-SSLMODE-STATEMENTS>
#[derive(Debug)]
struct Verifier {
    issuers: Option<(Roots, Names)>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    /// Where any certificate is believed, its owner need not prove that it is
    /// theirs; and Postgres servers have been given certificates of X.509 v1,
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

    fn verify_issuer(
        &self,
        roots: &Roots,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        // The file names this very certificate. As an authority's it may not be
        // used by a server, for which rustls refuses it and libpq does not.
        if roots.named.iter().any(|named| named == end_entity) {
            return Parsed::new(end_entity)?.check_validity(now);
        }
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &roots.store,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )
    }
}

fn verify_name(
    roots: &Roots,
    end_entity: &CertificateDer<'_>,
    name: &ServerName<'_>,
) -> Result<(), Error> {
    let verified = verify_server_name(&ParsedCertificate::try_from(end_entity)?, name);
    // Only where the operator chose whom to believe: a public authority does not
    // vouch for common names.
    let by_common_name = || {
        !roots.named.is_empty() && Parsed::new(end_entity).is_ok_and(|c| c.has_common_name(name))
    };
    verified.or_else(|error| if by_common_name() { Ok(()) } else { Err(error) })
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some((roots, names)) = &self.issuers {
            self.verify_issuer(roots, end_entity, intermediates, now)?;
            if *names == Names::Checked {
                verify_name(roots, end_entity, server_name)?;
            }
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
