//! Token → whose stream, and until when. The only user of `jsonwebtoken`.
//!
//! JWT: RFC 7519. The algorithms a token may name follow from the kind of each
//! key (RFC 8725, section 3.1): a secret verifies HMAC tokens and nothing else.

mod claims;
mod jwks;
mod keys;
mod proxy;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Header;
use serde_json::{Map, Value};

pub use claims::{ClaimPath, RequiredClaim};
pub use jwks::{FetchError, Fetched, JwksSource, KeySet, KeySetError, parse_key_set};
pub use keys::{KeyError, VerifyingKey};
pub use proxy::{ProxiedConnector, ProxyError};

use crate::{notification::UserId, secret::SigningSecret};
use claims::{Claims, Rules};

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
    pub secret: Option<SigningSecret>,
    /// Each verifies what its kind signs; from PEM and from a JWKS file.
    pub public_keys: Vec<VerifyingKey>,
    /// Where more of them are published.
    pub jwks: Option<JwksSource>,
    /// A token is for one of these audiences; for any, if there are none here.
    pub audiences: Vec<String>,
    /// The claim that names the token's audience.
    pub audience_claim: ClaimPath,
    /// A token is from one of these issuers; from any, if there are none here.
    pub issuers: Vec<String>,
    /// What else a token must say.
    pub required_claims: Vec<RequiredClaim>,
    /// The claim that names the user.
    pub user_claim: ClaimPath,
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
            audiences: Vec::new(),
            audience_claim: ClaimPath::named("aud"),
            issuers: Vec::new(),
            required_claims: Vec::new(),
            user_claim: ClaimPath::named("sub"),
            leeway: Duration::from_secs(5),
            cookie: None,
            query_token: true,
        }
    }
}

impl AuthConfig {
    /// The keys that the settings hold themselves.
    fn keys(&self) -> Vec<VerifyingKey> {
        let secret = self.secret.as_ref().and_then(VerifyingKey::of_secret);
        secret.into_iter().chain(self.public_keys.iter().cloned()).collect()
    }
}

/// Checks tokens against the keys of the settings and those of a key set.
pub struct Verifier {
    keys: ArcSwap<Vec<VerifyingKey>>,
    key_set: Option<Arc<KeySet>>,
    rules: Rules,
}

impl Verifier {
    /// A verifier for the settings; without a key in them it refuses all. A key
    /// set is empty until it is run.
    pub fn new(config: &AuthConfig) -> Self {
        Self {
            keys: ArcSwap::from_pointee(config.keys()),
            key_set: config.jwks.clone().map(KeySet::new).map(Arc::new),
            rules: Rules::new(config),
        }
    }

    /// Takes the keys of these settings instead; the rest of them is as it was
    /// at the start.
    pub fn replace_keys(&self, config: &AuthConfig) {
        self.keys.store(Arc::new(config.keys()));
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

    /// Checks the signature, the times and the claims that the settings ask
    /// for, and reads the user. A token signed with a key that is not known may
    /// wait until the key set has been fetched once more.
    ///
    /// # Errors
    ///
    /// See [`TokenError`]; its text may go to the client and holds nothing of
    /// the token.
    pub async fn verify(&self, token: &str) -> Result<Identity, TokenError> {
        let header = header(token)?;
        // RFC 7515, section 4.1.11: an extension that is critical and not known
        // makes the token invalid.
        if header.crit.is_some() {
            return Err(TokenError::Critical);
        }
        let outcome = self.check(token, &header);
        let Some(key_set) = &self.key_set else { return outcome };
        // It may be signed by a key of the set that is newer than ours.
        let is_unknown = outcome.as_ref().is_err_and(TokenError::is_of_key);
        if is_unknown && !key_set.names(header.kid.as_deref()) {
            key_set.look_again().await;
            return match self.check(token, &header) {
                Err(error) if error.is_of_key() && key_set.is_empty() => Err(TokenError::NoKeys),
                outcome => outcome,
            };
        }
        outcome
    }

    fn check(&self, token: &str, header: &Header) -> Result<Identity, TokenError> {
        // Only keys of the kind that the token says it is signed with. What it
        // says of keys (`jwk`, `jku`, `x5u`) is not looked at, and its `kid` only
        // chooses among the keys of the set.
        let (own, published) = (self.keys.load(), self.key_set.as_ref().map(|set| set.keys()));
        let published = published.iter().flat_map(|keys| keys.iter());
        let of_kind: Vec<_> =
            own.iter().chain(published).filter(|key| key.allows(header.alg)).collect();
        if of_kind.is_empty() {
            return Err(TokenError::Algorithm);
        }
        let mut named = of_kind.iter().filter(|key| key.may_be(header.kid.as_deref())).peekable();
        if named.peek().is_none() {
            return Err(TokenError::UnknownKey);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        if !named.any(|key| key.verifies(header, message, signature)) {
            return Err(TokenError::Signature);
        }
        self.rules.identity(&claims(message)?, SystemTime::now())
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

fn header(token: &str) -> Result<Header, TokenError> {
    // Before anything is decoded: three parts, no more and no fewer.
    if token.split('.').count() != 3 {
        return Err(TokenError::Malformed);
    }
    jsonwebtoken::decode_header(token).map_err(|_| {
        // An algorithm that the library does not know, `none` among them.
        let names_algorithm = part(token).is_some_and(|head: Map<_, _>| head.contains_key("alg"));
        if names_algorithm { TokenError::Algorithm } else { TokenError::Malformed }
    })
}

/// The claims of a message whose signature has been verified.
fn claims(message: &str) -> Result<Claims, TokenError> {
    let (_, claims) = message.split_once('.').ok_or(TokenError::Malformed)?;
    part(claims).ok_or(TokenError::Malformed)
}

/// The JSON object of the first part of `parts`.
fn part(parts: &str) -> Option<Map<String, Value>> {
    let encoded = parts.split('.').next()?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()
}

/// What an unverified token says of its key and its times, for those who hold it and wonder: ` (alg
/// RS256, kid "a", exp 2026-01-01T00:00:00Z)`. Nothing else of it.
pub fn described(token: &str) -> String {
    let Some(head) = part(token) else { return String::new() };
    let claims = token.split_once('.').and_then(|(_, rest)| part(rest)).unwrap_or_default();
    let of_key =
        ["alg", "kid"].into_iter().filter_map(|name| Some((name, head.get(name)?.to_string())));
    let times = ["iat", "nbf", "exp"].into_iter().filter_map(|name| {
        // What is later than the year 9999 has no such form.
        let seconds = claims.get(name)?.as_u64().filter(|seconds| *seconds < 253_402_300_800)?;
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        Some((name, humantime::format_rfc3339_seconds(at).to_string()))
    });
    let parts: Vec<_> =
        of_key.chain(times).map(|(name, value)| format!("{name} {value}")).collect();
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
}

/// Why a token does not open a stream. The names of claims in it are those of
/// the settings, never the token's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not three parts of base64url, or not JSON inside.
    #[error("the token is not a JWT: three parts of base64url with dots between are needed")]
    Malformed,
    /// Signed by another key.
    #[error("the token's signature is not valid: another key has signed it")]
    Signature,
    /// It names a key that is not there.
    #[error("the token names a key (kid) that the gateway does not have")]
    UnknownKey,
    /// No key is of the kind that could have signed it.
    #[error("the token's algorithm (alg) is not one that the gateway has a key for")]
    Algorithm,
    /// The key set has not been reached since the start.
    #[error("the gateway has not been able to fetch the keys that verify tokens yet")]
    NoKeys,
    /// It says that one must understand what is not understood here.
    #[error("the token has critical extensions (crit), which are not supported")]
    Critical,
    /// Past its `exp`.
    #[error("the token has expired (exp); get a new one")]
    Expired,
    /// No `exp`.
    #[error("the token has no expiry (exp); issue it with one")]
    ExpiryMissing,
    /// `exp` or `nbf` is something else than a time.
    #[error("the token's {0} is not a number of seconds since 1970")]
    Date(&'static str),
    /// Before its `nbf`.
    #[error("the token is not valid yet (nbf); compare the clocks of issuer and gateway")]
    NotYetValid,
    /// No audience.
    #[error("the token has no audience ({0}), and the gateway requires one")]
    AudienceMissing(String),
    /// For another audience.
    #[error("the token is for another audience ({0}) than the gateway requires")]
    Audience(String),
    /// No issuer.
    #[error("the token has no issuer (iss), and the gateway requires one")]
    IssuerMissing,
    /// From another issuer.
    #[error("the token is from another issuer (iss) than the gateway requires")]
    Issuer,
    /// A claim that the settings require is missing.
    #[error("the token has no claim {0}, which the gateway requires")]
    RequiredMissing(String),
    /// Or it has another value.
    #[error("the token's claim {0} does not have the value that the gateway requires")]
    Required(String),
    /// Nobody is named.
    #[error("the token has no claim {0}, which should name the user")]
    UserMissing(String),
    /// The user claim is of the wrong kind.
    #[error("the token's claim {0} is not a user: text or a whole number, 1 to 255 bytes")]
    User(String),
    /// Issued before its user's tokens were revoked.
    #[error("the token has been revoked; log in again")]
    Revoked,
    /// It does not say whether it was issued before.
    #[error(
        "the token does not say when it was issued (iat), and tokens of its user have been \
         revoked; issue tokens with iat"
    )]
    RevokedWithoutIssueTime,
}

impl TokenError {
    /// Whether another key might verify the token.
    fn is_of_key(&self) -> bool {
        matches!(self, Self::Signature | Self::UnknownKey | Self::Algorithm)
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
    let secret = config.secret.as_ref().map_or(&[][..], SigningSecret::expose);
    let now = jsonwebtoken::get_current_timestamp();
    let mut claims = Map::new();
    claims.insert("iat".into(), now.into());
    claims.insert("exp".into(), now.saturating_add(lifetime.as_secs()).into());
    // Written as names, which win over paths.
    for required in &config.required_claims {
        claims.insert(required.path().to_string(), required.value().into());
    }
    claims.insert(config.user_claim.to_string(), serde_json::to_value(user)?);
    if let Some(audience) = config.audiences.first() {
        claims.insert(config.audience_claim.to_string(), audience.as_str().into());
    }
    if let Some(issuer) = config.issuers.first() {
        claims.insert("iss".into(), issuer.as_str().into());
    }
    jsonwebtoken::encode(
        &Header::default(),
        &claims,
        &jsonwebtoken::EncodingKey::from_secret(secret),
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
        AuthConfig { secret: Some(SigningSecret::parse(SECRET).unwrap()), ..AuthConfig::default() }
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
            (json!({"sub": USER}), TokenError::ExpiryMissing),
            (json!({"sub": USER, "exp": null}), TokenError::ExpiryMissing),
            (json!({"sub": USER, "exp": "soon"}), TokenError::Date("exp")),
            (json!({"sub": USER, "exp": later, "nbf": "soon"}), TokenError::Date("nbf")),
            (json!({"sub": USER, "exp": now() - 60}), TokenError::Expired),
            (json!({"sub": USER, "exp": later, "nbf": now() + 60}), TokenError::NotYetValid),
            (json!({"exp": later}), TokenError::UserMissing("sub".into())),
            (json!({"sub": [USER], "exp": later}), TokenError::User("sub".into())),
            (json!({"sub": "", "exp": later}), TokenError::User("sub".into())),
            (json!({"sub": 7.5, "exp": later}), TokenError::User("sub".into())),
            (json!({"sub": "x".repeat(256), "exp": later}), TokenError::User("sub".into())),
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
            audiences: vec!["bell".into(), "app:auth".into()],
            issuers: vec!["app".into(), "old".into()],
            ..config()
        });
        let check = |claims| outcome(&strict, &token(Algorithm::HS256, &claims));
        for aud in [json!("bell"), json!("app:auth"), json!(["a", "bell"])] {
            for iss in ["app", "old"] {
                assert!(check(json!({"sub": USER, "exp": exp, "aud": aud, "iss": iss})).is_ok());
            }
        }
        let audience = TokenError::Audience("aud".into());
        for (aud, iss, error) in [
            (Value::Null, json!("app"), TokenError::AudienceMissing("aud".into())),
            (json!("x"), json!("app"), audience.clone()),
            (json!(["x"]), json!("app"), audience.clone()),
            (json!("bel"), json!("app"), audience.clone()),
            (json!({"bell": 1}), json!("app"), audience),
            (json!("bell"), Value::Null, TokenError::IssuerMissing),
            (json!("bell"), json!("x"), TokenError::Issuer),
        ] {
            let claims = json!({"sub": USER, "exp": exp, "aud": aud, "iss": iss});
            assert_eq!(check(claims.clone()), Err(error), "{claims}");
        }
    }

    #[test]
    fn the_audience_may_be_in_another_claim_and_more_claims_may_be_required() {
        let verifier = Verifier::new(&AuthConfig {
            audiences: vec!["app".into()],
            audience_claim: "client_id".parse().unwrap(),
            required_claims: vec!["token_use=access".parse().unwrap()],
            ..config()
        });
        let check = |more: Value| {
            let mut claims = json!({"sub": USER, "exp": now() + 60});
            claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            outcome(&verifier, &token(Algorithm::HS256, &claims)).map(|_| ())
        };
        assert_eq!(check(json!({"client_id": "app", "token_use": "access"})), Ok(()));
        let missing = TokenError::AudienceMissing("client_id".into());
        assert_eq!(check(json!({"aud": "app", "token_use": "access"})), Err(missing));
        let required = TokenError::Required("token_use".into());
        assert_eq!(check(json!({"client_id": "app", "token_use": "id"})), Err(required));
        let missing = TokenError::RequiredMissing("token_use".into());
        assert_eq!(check(json!({"client_id": "app"})), Err(missing));
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
        assert_eq!(outcome(&verifier, &none), Err(TokenError::Algorithm));
        let rsa = EncodingKey::from_rsa_pem(RSA.0.as_bytes()).unwrap();
        let rsa = signed(Algorithm::RS256, &rsa);
        assert_eq!(outcome(&verifier, &rsa), Err(TokenError::Algorithm));
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
        let public_keys = VerifyingKey::parse_pem(pem).unwrap();
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
                    Err(TokenError::Algorithm)
                );
            }
        }
    }

    #[test]
    fn a_key_that_should_not_be_there_is_named() {
        for (pem, error) in [
            ("", KeyError::Missing),
            ("a secret", KeyError::Missing),
            (RSA.0, KeyError::Private),
            ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", KeyError::Unknown),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", KeyError::Unknown),
        ] {
            assert_eq!(VerifyingKey::parse_pem(pem).err(), Some(error), "{pem}");
        }
    }

    #[test]
    fn without_a_key_or_with_an_empty_one_nobody_is_let_in() {
        let empty = AuthConfig { secret: SigningSecret::parse("").ok(), ..AuthConfig::default() };
        let token = signed(Algorithm::HS256, &EncodingKey::from_secret(b""));
        for config in [empty, AuthConfig::default()] {
            assert_eq!(outcome(&Verifier::new(&config), &token), Err(TokenError::Algorithm));
        }
    }

    #[test]
    fn the_user_claim_is_a_setting() {
        let config = AuthConfig { user_claim: "user.id".parse().unwrap(), ..config() };
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
