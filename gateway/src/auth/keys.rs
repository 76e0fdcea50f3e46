//! Keys, and what each may verify.

use std::fmt;

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, Header,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse},
};

use crate::secret::SigningSecret;

/// A key and the algorithms it may verify (RFC 8725, section 3.1).
#[derive(Clone)]
pub struct VerifyingKey {
    /// Its name (`kid`) in the set it comes from.
    id: Option<String>,
    key: DecodingKey,
    algorithms: Vec<Algorithm>,
}

impl VerifyingKey {
    /// The key of a secret: HS256, HS384 and HS512. An empty secret would
    /// verify anyone's tokens, so there is no key of one.
    pub(super) fn of_secret(secret: &SigningSecret) -> Option<Self> {
        let secret = Some(secret.expose()).filter(|secret| !secret.is_empty())?;
        Some(Self::of(DecodingKey::from_secret(secret)))
    }

    /// The public keys of a PEM file, one after the other (RFC 7468).
    ///
    /// # Errors
    ///
    /// No key, one of a kind that signs no tokens, or one that should not be
    /// here: a private key.
    pub fn parse_pem(pem: &str) -> Result<Vec<Self>, KeyError> {
        const BEGIN: &str = "-----BEGIN ";
        let blocks = pem.split(BEGIN).skip(1);
        let keys: Vec<Self> = blocks
            .map(|block| Self::parse_block(&format!("{BEGIN}{block}")))
            .collect::<Result<_, _>>()?;
        if keys.is_empty() { Err(KeyError::Missing) } else { Ok(keys) }
    }

    fn parse_block(pem: &str) -> Result<Self, KeyError> {
        let label = pem.lines().next().unwrap_or_default();
        if label.contains("PRIVATE KEY") {
            return Err(KeyError::Private);
        }
        let pem = pem.as_bytes();
        DecodingKey::from_rsa_pem(pem)
            .or_else(|_| DecodingKey::from_ec_pem(pem))
            .or_else(|_| DecodingKey::from_ed_pem(pem))
            .map(Self::of)
            .map_err(|_| KeyError::Unknown)
    }

    fn of(key: DecodingKey) -> Self {
        Self { id: None, algorithms: key.family().algorithms().to_vec(), key }
    }

    /// A published key, if it is one that signs tokens (RFC 7517, section 4).
    /// Symmetric keys are left out: anyone who can read the set knows them.
    pub(super) fn published(jwk: &Jwk) -> Option<Self> {
        let of_kind = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => AlgorithmFamily::Rsa.algorithms().to_vec(),
            AlgorithmParameters::EllipticCurve(key) => match key.curve {
                EllipticCurve::P256 => vec![Algorithm::ES256],
                EllipticCurve::P384 => vec![Algorithm::ES384],
                _ => return None,
            },
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                vec![Algorithm::EdDSA]
            }
            _ => return None,
        };
        let is_for_signatures =
            jwk.common.public_key_use.as_ref().is_none_or(|u| *u == PublicKeyUse::Signature);
        let algorithms: Vec<Algorithm> = match jwk.common.key_algorithm {
            None => of_kind,
            Some(named) => {
                let named: Algorithm = named.to_string().parse().ok()?;
                of_kind.into_iter().filter(|algorithm| *algorithm == named).collect()
            }
        };
        if !is_for_signatures || algorithms.is_empty() {
            return None;
        }
        let key = DecodingKey::from_jwk(jwk).ok()?;
        Some(Self { id: jwk.common.key_id.clone(), key, algorithms })
    }

    /// Its name in its set.
    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Whether it verifies this algorithm.
    pub(super) fn allows(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    /// Whether it may be the key of this name; where one of the two has no
    /// name, it may.
    pub(super) fn may_be(&self, id: Option<&str>) -> bool {
        !matches!((self.id(), id), (Some(own), Some(wanted)) if own != wanted)
    }

    /// Whether it signed this message (header and claims, with the dot between)
    /// by the algorithm that the header names.
    pub(super) fn verifies(&self, header: &Header, message: &str, signature: &str) -> bool {
        let verify = jsonwebtoken::crypto::verify;
        self.allows(header.alg)
            && verify(signature, message.as_bytes(), &self.key, header.alg).unwrap_or(false)
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyingKey")
            .field("id", &self.id)
            .field("algorithms", &self.algorithms)
            .finish_non_exhaustive()
    }
}

/// Why a file holds no public keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// There is no PEM in it.
    #[error("it has no key in PEM; it needs a block that begins with -----BEGIN PUBLIC KEY-----")]
    Missing,
    /// It should be nowhere but where tokens are signed.
    #[error(
        "it holds a private key; give the public one, which \
         `openssl pkey -in private.pem -pubout` prints"
    )]
    Private,
    /// A key that signs no tokens.
    #[error("it holds something other than an RSA, EC (P-256, P-384) or Ed25519 public key")]
    Unknown,
}
