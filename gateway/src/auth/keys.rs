//! Keys, and what each may verify.

use std::{fmt, time::Duration};

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, Header, Validation,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse},
};
use serde_json::{Map, Value};

use super::{AuthConfig, TokenError};

/// What holds for a token whatever key it is signed with.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    audience: Option<String>,
    issuer: Option<String>,
    leeway: Duration,
}

impl Rules {
    pub(super) fn new(config: &AuthConfig) -> Self {
        let AuthConfig { audience, issuer, leeway, .. } = config;
        Self { audience: audience.clone(), issuer: issuer.clone(), leeway: *leeway }
    }

    fn validation(&self, algorithms: Vec<Algorithm>) -> Validation {
        let leeway = self.leeway.as_secs();
        let mut validation =
            Validation { algorithms, leeway, validate_nbf: true, ..Validation::default() };
        let mut required = vec!["exp"];
        // The library rejects a token that has an `aud` when none is configured,
        // and passes one that lacks a configured `aud` or `iss`: both are the
        // opposite of what the settings promise.
        match &self.audience {
            Some(audience) => {
                validation.set_audience(&[audience]);
                required.push("aud");
            }
            None => validation.validate_aud = false,
        }
        if let Some(issuer) = &self.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        validation.set_required_spec_claims(&required);
        validation
    }
}

/// A key and what it may verify.
pub(super) struct VerifyingKey {
    /// Its name in the set it comes from.
    id: Option<String>,
    key: DecodingKey,
    validation: Validation,
}

impl VerifyingKey {
    /// The keys that the settings hold themselves.
    pub(super) fn of(config: &AuthConfig) -> Vec<Self> {
        let rules = Rules::new(config);
        let secret = config.secret.iter().map(|secret| secret.expose().as_bytes());
        // As a key, nothing is known to everybody.
        let secret = secret.filter(|secret| !secret.is_empty()).map(DecodingKey::from_secret);
        let public = config.public_keys.iter().map(|key| key.0.clone());
        secret
            .chain(public)
            .map(|key| {
                let algorithms = Validation::new_for_family(key.family()).algorithms;
                Self { id: None, validation: rules.validation(algorithms), key }
            })
            .collect()
    }

    /// A published key, if it is one that signs tokens (RFC 7517, section 4).
    /// A symmetric key is none: everybody who can read the set knows it.
    pub(super) fn published(jwk: &Jwk, rules: &Rules) -> Option<Self> {
        let of_kind = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => {
                Validation::new_for_family(AlgorithmFamily::Rsa).algorithms
            }
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
        let id = jwk.common.key_id.clone();
        Some(Self { id, key, validation: rules.validation(algorithms) })
    }

    /// Its name in its set.
    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Whether it could have signed a token with this header: the algorithm is
    /// one of its own, and where both have a name it is the same.
    pub(super) fn fits(&self, header: &Header) -> bool {
        let names = (self.id(), header.kid.as_deref());
        let is_named = matches!(names, (Some(own), Some(wanted)) if own != wanted);
        !is_named && self.validation.algorithms.contains(&header.alg)
    }

    pub(super) fn decode(&self, token: &str) -> Result<Map<String, Value>, TokenError> {
        jsonwebtoken::decode(token, &self.key, &self.validation)
            .map(|data| data.claims)
            .map_err(TokenError::from)
    }
}

/// A public key; its kind says which algorithms it verifies.
#[derive(Clone)]
pub struct PublicKey(DecodingKey);

impl PublicKey {
    /// The keys of a PEM file, one after the other (RFC 7468).
    ///
    /// # Errors
    ///
    /// No key, one of a kind that signs no tokens, or one that should not be
    /// here: a private key.
    pub fn parse_all(pem: &str) -> Result<Vec<Self>, KeyError> {
        const BEGIN: &str = "-----BEGIN ";
        let blocks = pem.split(BEGIN).skip(1);
        let keys: Vec<Self> = blocks
            .map(|block| Self::parse(&format!("{BEGIN}{block}")))
            .collect::<Result<_, _>>()?;
        if keys.is_empty() { Err(KeyError::None) } else { Ok(keys) }
    }

    fn parse(pem: &str) -> Result<Self, KeyError> {
        let label = pem.lines().next().unwrap_or_default();
        if label.contains("PRIVATE KEY") {
            return Err(KeyError::Private);
        }
        let pem = pem.as_bytes();
        DecodingKey::from_rsa_pem(pem)
            .or_else(|_| DecodingKey::from_ec_pem(pem))
            .or_else(|_| DecodingKey::from_ed_pem(pem))
            .map(Self)
            .map_err(|_| KeyError::Unknown)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PublicKey").field(&self.0.family()).finish()
    }
}

/// Why a file holds no public keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// There is no PEM in it.
    #[error("there is no key in PEM (-----BEGIN PUBLIC KEY-----)")]
    None,
    /// It should be nowhere but where tokens are signed.
    #[error("this is a private key; the gateway needs the public one (openssl pkey -pubout)")]
    Private,
    /// None that signs tokens.
    #[error("a key is not an RSA, EC (P-256, P-384) or Ed25519 public key")]
    Unknown,
}
