//! Token → whose stream, and until when. The only user of `jsonwebtoken`.
//!
//! JWT: RFC 7519. The algorithms a token may name follow from the kind of each
//! key (RFC 8725, section 3.1): a secret verifies HMAC tokens and nothing else.

mod jwks;
mod keys;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use jsonwebtoken::errors::ErrorKind;
use serde_json::{Map, Value};

pub use jwks::{FetchError, Fetched, JwksSource, KeySet};
pub use keys::{KeyError, PublicKey};

use crate::{notification::UserId, secret::Secret};
use keys::{Rules, VerifyingKey};

/// Who a valid token speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user whose rows the stream carries.
    pub user: UserId,
    /// The token's `iat`, where it has one.
    pub issued_at: Option<SystemTime>,
    /// The token's `exp`.
    pub expires_at: SystemTime,
    /// When the stream ends: `exp` and the leeway.
    pub ends_at: SystemTime,
}

/// Who may connect.
#[derive(Clone, Debug)]
pub struct AuthConfig {
    /// Verifies HS256, HS384 and HS512.
    pub secret: Option<Secret>,
    /// Each verifies what its kind signs.
    pub public_keys: Vec<PublicKey>,
    /// Where more of them are published.
    pub jwks: Option<JwksSource>,
    /// The `aud` required, if any.
    pub audience: Option<String>,
    /// The `iss` required, if any.
    pub issuer: Option<String>,
    /// The claim that names the user.
    pub user_claim: String,
    /// Clock skew forgiven in `exp` and `nbf`; whole seconds.
    pub leeway: Duration,
    /// The cookie that may hold the token.
    pub cookie: Option<String>,
    /// Whether the query may hold the token.
    pub query_token: bool,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            secret: None,
            public_keys: Vec::new(),
            jwks: None,
            audience: None,
            issuer: None,
            user_claim: "sub".into(),
            leeway: Duration::from_secs(5),
            cookie: None,
            query_token: true,
        }
    }
}

/// Checks tokens against the keys of the settings and those of a key set.
pub struct Verifier {
    keys: ArcSwap<Vec<VerifyingKey>>,
    key_set: Option<Arc<KeySet>>,
    leeway: Duration,
    user_claim: String,
}

impl Verifier {
    /// A verifier for the settings; without a key in them it refuses all. A key
    /// set is empty until it is run.
    pub fn new(config: &AuthConfig) -> Self {
        let key_set = config.jwks.clone().map(|source| KeySet::new(source, Rules::new(config)));
        Self {
            keys: ArcSwap::from_pointee(VerifyingKey::of(config)),
            key_set: key_set.map(Arc::new),
            leeway: config.leeway,
            user_claim: config.user_claim.clone(),
        }
    }

    /// Takes the keys of these settings instead; the rest of them is as it was
    /// at the start.
    pub fn replace_keys(&self, config: &AuthConfig) {
        self.keys.store(Arc::new(VerifyingKey::of(config)));
    }

    /// The published keys, if the settings name any.
    pub fn key_set(&self) -> Option<&Arc<KeySet>> {
        self.key_set.as_ref()
    }

    /// Whether there is a key that could verify anything.
    pub fn has_keys(&self) -> bool {
        let has_published = self.key_set.as_ref().is_some_and(|set| !set.is_empty());
        has_published || !self.keys.load().is_empty()
    }

    /// Checks signature, `exp`, `nbf`, and `aud` and `iss` where set, and reads
    /// the user claim, which must be a UUID. A token signed with a key that is
    /// not known may wait until the key set has been asked once more.
    ///
    /// # Errors
    ///
    /// See [`TokenError`]; its text may go to the client and holds nothing of
    /// the token.
    pub async fn verify(&self, token: &str) -> Result<Identity, TokenError> {
        let header = jsonwebtoken::decode_header(token)?;
        // RFC 7515, section 4.1.11: what is critical and not known is refused.
        if header.crit.is_some() {
            return Err(TokenError::Critical);
        }
        let outcome = self.check(token, &header);
        let Some(key_set) = &self.key_set else { return outcome };
        // Signed by a key of the set, as far as one can see, and not by one of
        // those that are known.
        if outcome == Err(TokenError::Signature) && !key_set.names(header.kid.as_deref()) {
            key_set.look_again().await;
            return match self.check(token, &header) {
                Err(TokenError::Signature) if key_set.is_empty() => Err(TokenError::NoKeys),
                outcome => outcome,
            };
        }
        outcome
    }

    fn check(&self, token: &str, header: &jsonwebtoken::Header) -> Result<Identity, TokenError> {
        // Only keys of the kind that the token says it is signed with: what the
        // token says of keys (`jwk`, `jku`, `x5u`) is not looked at, and its
        // `kid` only chooses among those of the set.
        let (own, published) = (self.keys.load(), self.key_set.as_ref().map(|set| set.keys()));
        let published = published.iter().flat_map(|keys| keys.iter());
        let fitting = own.iter().chain(published).filter(|key| key.fits(header));
        let mut outcome = Err(TokenError::Signature);
        for key in fitting {
            outcome = key.decode(token);
            // Another key signed it; all else holds for every key.
            if outcome != Err(TokenError::Signature) {
                break;
            }
        }
        self.identity(&outcome?)
    }

    fn identity(&self, claims: &Map<String, Value>) -> Result<Identity, TokenError> {
        let user = claims.get(&self.user_claim).and_then(user_id).ok_or(TokenError::User)?;
        let expires_at = claims.get("exp").and_then(numeric_date).ok_or(TokenError::Expiry)?;
        let issued_at = claims.get("iat").and_then(numeric_date);
        Ok(Identity { user, issued_at, expires_at, ends_at: expires_at + self.leeway })
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

/// A user is a text or a whole number; the row's user is compared as text.
fn user_id(claim: &Value) -> Option<UserId> {
    match claim {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) if !number.is_f64() => number.to_string().parse().ok(),
        _ => None,
    }
}

/// NumericDate (RFC 7519, section 2) may have a fraction. Clamped to the year
/// 9999, the last that RFC 3339 can write.
fn numeric_date(date: &Value) -> Option<SystemTime> {
    const END_OF_9999: f64 = 253_402_300_799.0;
    let seconds = date.as_f64().filter(|s| s.is_finite() && *s >= 0.0)?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds.min(END_OF_9999)))
}

/// Why a token does not open a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not three parts of base64url, or not JSON inside.
    #[error("the token is not a JWT")]
    Malformed,
    /// Signed by another key, or not as that kind of key signs.
    #[error("the token's signature is not valid")]
    Signature,
    /// No key is known yet: the set has not been reached since the start.
    #[error("no key is known yet to verify tokens with")]
    NoKeys,
    /// It says that one must understand what is not understood here.
    #[error("the token has critical extensions (crit) that are not known")]
    Critical,
    /// Past its `exp`.
    #[error("the token has expired")]
    Expired,
    /// No `exp`, or none that is a time.
    #[error("the token has no valid exp")]
    Expiry,
    /// Before its `nbf`.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// For another audience, or for none.
    #[error("the token is for another audience")]
    Audience,
    /// From another issuer, or from none.
    #[error("the token is from another issuer")]
    Issuer,
    /// Issued before its user's tokens were revoked.
    #[error("the token has been revoked")]
    Revoked,
    /// The user claim is missing, or is neither a text nor a whole number.
    #[error("the token's user claim is not a text or a whole number of at most 255 bytes")]
    User,
}

impl From<jsonwebtoken::errors::Error> for TokenError {
    fn from(error: jsonwebtoken::errors::Error) -> Self {
        match error.kind() {
            ErrorKind::ExpiredSignature => Self::Expired,
            ErrorKind::ImmatureSignature => Self::NotYetValid,
            ErrorKind::InvalidAudience => Self::Audience,
            ErrorKind::InvalidIssuer => Self::Issuer,
            ErrorKind::MissingRequiredClaim(claim) => match claim.as_str() {
                "aud" => Self::Audience,
                "iss" => Self::Issuer,
                _ => Self::Expiry,
            },
            ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm => Self::Signature,
            _ => Self::Malformed,
        }
    }
}

/// A token for `user`, as the settings want it, signed by HS256 and valid for
/// `lifetime`: for trying the gateway out, and for its tests.
///
/// # Errors
///
/// When the signing library refuses; it has no reason to.
pub fn sign(
    config: &AuthConfig,
    user: &UserId,
    lifetime: Duration,
) -> Result<String, jsonwebtoken::errors::Error> {
    let secret = config.secret.as_ref().map_or("", Secret::expose);
    let now = jsonwebtoken::get_current_timestamp();
    let mut claims = Map::new();
    claims.insert("iat".into(), now.into());
    claims.insert("exp".into(), now.saturating_add(lifetime.as_secs()).into());
    claims.insert(config.user_claim.clone(), user.to_string().into());
    if let Some(audience) = &config.audience {
        claims.insert("aud".into(), audience.as_str().into());
    }
    if let Some(issuer) = &config.issuer {
        claims.insert("iss".into(), issuer.as_str().into());
    }
    jsonwebtoken::encode(
        &jsonwebtoken::Header::default(),
        &claims,
        &jsonwebtoken::EncodingKey::from_secret(secret.as_bytes()),
    )
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use jsonwebtoken::{Algorithm, EncodingKey, Header};
    use serde_json::json;

    use super::*;

    const SECRET: &str = "a secret of at least thirty-two bytes";
    const USER: &str = "11111111-2222-3333-4444-555555555555";

    fn config() -> AuthConfig {
        AuthConfig { secret: Some(Secret::new(SECRET.into())), ..AuthConfig::default() }
    }

    fn token(algorithm: Algorithm, claims: &Value) -> String {
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        jsonwebtoken::encode(&Header::new(algorithm), claims, &key).unwrap()
    }

    /// Without a key set there is nothing to wait for.
    fn outcome(verifier: &Verifier, token: &str) -> Result<Identity, TokenError> {
        verifier.verify(token).now_or_never().unwrap()
    }

    fn verify(claims: &Value) -> Result<Identity, TokenError> {
        outcome(&Verifier::new(&config()), &token(Algorithm::HS256, claims))
    }

    fn now() -> u64 {
        jsonwebtoken::get_current_timestamp()
    }

    #[test]
    fn all_three_hmac_algorithms_open_a_stream() {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let token = token(algorithm, &json!({"sub": USER, "exp": now() + 60}));
            let identity = outcome(&Verifier::new(&config()), &token).unwrap();
            assert_eq!(identity.user.to_string(), USER);
        }
    }

    #[test]
    fn the_claims_that_refuse_a_token_each_say_why() {
        let later = now() + 600;
        for (claims, error) in [
            (json!({"sub": USER}), TokenError::Expiry),
            (json!({"sub": USER, "exp": "soon"}), TokenError::Expiry),
            (json!({"sub": USER, "exp": now() - 60}), TokenError::Expired),
            (json!({"sub": USER, "exp": later, "nbf": now() + 60}), TokenError::NotYetValid),
            (json!({"exp": later}), TokenError::User),
            (json!({"sub": "", "exp": later}), TokenError::User),
            (json!({"sub": 7.5, "exp": later}), TokenError::User),
            (json!({"sub": "x".repeat(256), "exp": later}), TokenError::User),
        ] {
            assert_eq!(verify(&claims), Err(error), "{claims}");
        }
    }

    #[test]
    fn the_user_is_a_text_a_whole_number_or_a_uuid_in_any_notation() {
        for (sub, user) in [
            (json!("auth0|abc"), "auth0|abc"),
            (json!(7), "7"),
            (json!(u64::MAX), "18446744073709551615"),
            (json!(USER.to_uppercase()), USER),
            (json!(USER.replace('-', "")), USER),
        ] {
            let identity = verify(&json!({"sub": sub, "exp": now() + 60})).unwrap();
            assert_eq!(identity.user, user.parse().unwrap(), "{sub}");
            assert_eq!(identity.user.to_string(), user);
        }
    }

    #[test]
    fn leeway_forgives_a_clock_that_is_a_little_off() {
        let identity = verify(&json!({"sub": USER, "exp": now() - 2})).unwrap();
        assert_eq!(identity.ends_at, identity.expires_at + Duration::from_secs(5));
        assert!(verify(&json!({"sub": USER, "exp": now() + 60, "nbf": now() + 2})).is_ok());
    }

    #[test]
    fn audience_and_issuer_are_required_where_set_and_ignored_where_not() {
        let exp = now() + 60;
        assert!(verify(&json!({"sub": USER, "exp": exp, "aud": "x", "iss": "y"})).is_ok());

        let strict = Verifier::new(&AuthConfig {
            audience: Some("bell".into()),
            issuer: Some("app".into()),
            ..config()
        });
        let check = |claims| outcome(&strict, &token(Algorithm::HS256, &claims));
        assert!(check(json!({"sub": USER, "exp": exp, "aud": "bell", "iss": "app"})).is_ok());
        assert!(
            check(json!({"sub": USER, "exp": exp, "aud": ["a", "bell"], "iss": "app"})).is_ok()
        );
        for (claims, error) in [
            (json!({"sub": USER, "exp": exp, "iss": "app"}), TokenError::Audience),
            (json!({"sub": USER, "exp": exp, "iss": "app", "aud": "x"}), TokenError::Audience),
            (json!({"sub": USER, "exp": exp, "aud": "bell"}), TokenError::Issuer),
            (json!({"sub": USER, "exp": exp, "aud": "bell", "iss": "x"}), TokenError::Issuer),
        ] {
            assert_eq!(check(claims.clone()), Err(error), "{claims}");
        }
    }

    #[test]
    fn another_key_another_algorithm_or_none_is_no_signature() {
        let verifier = Verifier::new(&config());
        let claims = json!({"sub": USER, "exp": now() + 60});
        let key = EncodingKey::from_secret(b"somebody else's");
        let foreign = jsonwebtoken::encode(&Header::default(), &claims, &key).unwrap();
        assert_eq!(outcome(&verifier, &foreign), Err(TokenError::Signature));

        let good = token(Algorithm::HS256, &claims);
        let body = good.split('.').nth(1).unwrap();
        // {"alg":"none","typ":"JWT"}
        let none = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{body}.");
        assert!(outcome(&verifier, &none).is_err());
        for garbage in ["", ".", "..", "a.b.c", "🔔.🔔.🔔", &good[..good.len() - 8]] {
            assert!(outcome(&verifier, garbage).is_err(), "{garbage}");
        }
    }

    const RSA: (&str, &str) =
        (include_str!("../tests/keys/rsa.pem"), include_str!("../tests/keys/rsa.pub.pem"));
    const EC256: (&str, &str) =
        (include_str!("../tests/keys/ec256.pem"), include_str!("../tests/keys/ec256.pub.pem"));
    const EC384: (&str, &str) =
        (include_str!("../tests/keys/ec384.pem"), include_str!("../tests/keys/ec384.pub.pem"));
    const ED25519: (&str, &str) =
        (include_str!("../tests/keys/ed25519.pem"), include_str!("../tests/keys/ed25519.pub.pem"));

    fn with_keys(pem: &str) -> Verifier {
        let public_keys = PublicKey::parse_all(pem).unwrap();
        Verifier::new(&AuthConfig { public_keys, ..AuthConfig::default() })
    }

    fn signed(algorithm: Algorithm, key: &EncodingKey) -> String {
        let claims = json!({"sub": USER, "exp": now() + 60});
        jsonwebtoken::encode(&Header::new(algorithm), &claims, key).unwrap()
    }

    #[test]
    fn each_kind_of_public_key_verifies_what_it_signs_and_nothing_else() {
        use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
        let rsa = EncodingKey::from_rsa_pem(RSA.0.as_bytes()).unwrap();
        let ec256 = EncodingKey::from_ec_pem(EC256.0.as_bytes()).unwrap();
        let ec384 = EncodingKey::from_ec_pem(EC384.0.as_bytes()).unwrap();
        let ed = EncodingKey::from_ed_pem(ED25519.0.as_bytes()).unwrap();
        let mut tokens = Vec::new();
        for algorithm in [RS256, RS384, RS512, PS256, PS384, PS512] {
            tokens.push((RSA.1, signed(algorithm, &rsa)));
        }
        tokens.push((EC256.1, signed(ES256, &ec256)));
        tokens.push((EC384.1, signed(ES384, &ec384)));
        tokens.push((ED25519.1, signed(EdDSA, &ed)));

        let publics = [RSA.1, EC256.1, EC384.1, ED25519.1];
        for (signer, token) in &tokens {
            for public in publics {
                let verified = outcome(&with_keys(public), token);
                assert_eq!(verified.is_ok(), *signer == public, "{token}: {verified:?}");
            }
            // During a rotation the file holds several, and the secret is there
            // still.
            assert!(outcome(&with_keys(&publics.concat()), token).is_ok());
        }
    }

    #[test]
    fn a_token_signed_with_the_public_key_as_a_secret_is_refused() {
        let verifier = with_keys(RSA.1);
        for secret in [RSA.1, RSA.1.trim_end()] {
            let key = EncodingKey::from_secret(secret.as_bytes());
            for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
                assert_eq!(
                    outcome(&verifier, &signed(algorithm, &key)),
                    Err(TokenError::Signature)
                );
            }
        }
    }

    #[test]
    fn a_key_that_should_not_be_there_is_named() {
        for (pem, error) in [
            ("", KeyError::None),
            ("a secret", KeyError::None),
            (RSA.0, KeyError::Private),
            ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", KeyError::Unknown),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", KeyError::Unknown),
        ] {
            assert_eq!(PublicKey::parse_all(pem).err(), Some(error), "{pem}");
        }
    }

    #[test]
    fn without_a_key_or_with_an_empty_one_nobody_is_let_in() {
        let empty =
            AuthConfig { secret: Some(Secret::new(String::new())), ..AuthConfig::default() };
        let token = signed(Algorithm::HS256, &EncodingKey::from_secret(b""));
        for config in [empty, AuthConfig::default()] {
            assert_eq!(outcome(&Verifier::new(&config), &token), Err(TokenError::Signature));
        }
    }

    #[test]
    fn the_user_claim_is_a_setting() {
        let config = AuthConfig { user_claim: "uid".into(), ..config() };
        let user: UserId = USER.parse().unwrap();
        let token = sign(&config, &user, Duration::from_secs(60)).unwrap();
        assert_eq!(outcome(&Verifier::new(&config), &token).unwrap().user, user);
    }

    #[test]
    fn an_expiry_in_the_far_future_is_clamped_not_overflowed() {
        let identity = verify(&json!({"sub": USER, "exp": u64::MAX})).unwrap();
        assert!(
            humantime::format_rfc3339(identity.expires_at).to_string().starts_with("9999-12-31")
        );
    }
}
