//! What a token says, once its signature is known to be good.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime},
};

use serde_json::{Map, Value};

use super::{AuthConfig, Identity, TokenError};
use crate::notification::UserId;

/// The claims of a token, as JSON.
pub(super) type Claims = Map<String, Value>;

/// The longest path of a claim in the settings, in bytes.
const MAX_PATH_BYTES: usize = 255;

/// Where a claim is: a name, or a path into nested objects (`user.id`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimPath(String);

impl ClaimPath {
    /// A claim at the top level; the name is ours.
    pub(super) fn named(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The value at the path. At every level the longest name that exists wins,
    /// so that `https://example.com/user.id` is found as a claim of that name,
    /// or as `id` in the claim `https://example.com/user`.
    pub fn find<'a>(&self, claims: &'a Map<String, Value>) -> Option<&'a Value> {
        let (mut object, mut rest) = (claims, self.0.as_str());
        'level: loop {
            if let Some(value) = object.get(rest) {
                return Some(value);
            }
            for (dot, _) in rest.rmatch_indices('.') {
                if let Some(Value::Object(inner)) = object.get(&rest[..dot]) {
                    (object, rest) = (inner, &rest[dot + 1..]);
                    continue 'level;
                }
            }
            return None;
        }
    }

    /// The path as it is written in the settings.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClaimPath {
    type Err = String;

    fn from_str(path: &str) -> Result<Self, String> {
        match path.len() {
            0 => {
                Err("the name of a claim is missing; write it as in the token, such as sub".into())
            }
            1..=MAX_PATH_BYTES => Ok(Self(path.to_owned())),
            n => Err(format!("a claim's path has at most {MAX_PATH_BYTES} bytes, this one {n}")),
        }
    }
}

impl fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A claim that a token needs, with its value or with any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequiredClaim {
    path: ClaimPath,
    value: Option<String>,
}

impl RequiredClaim {
    /// Where the claim is.
    pub(super) fn path(&self) -> &ClaimPath {
        &self.path
    }

    /// The value it must have; empty where any will do.
    pub(super) fn value(&self) -> &str {
        self.value.as_deref().unwrap_or_default()
    }

    fn check(&self, claims: &Claims) -> Result<(), TokenError> {
        let found = self.path.find(claims).filter(|claim| !claim.is_null());
        let claim = found.ok_or_else(|| TokenError::RequiredMissing(self.path.to_string()))?;
        // A list of words in one text (RFC 8693, section 4.2).
        let is_scope = matches!(self.path.0.as_str(), "scope" | "scp");
        let is_met = self.value.as_ref().is_none_or(|value| {
            let is_word = |text: &str| is_scope && text.split(' ').any(|word| word == value);
            contains(claim, |text| text == value || is_word(text))
        });
        if is_met { Ok(()) } else { Err(TokenError::Required(self.path.to_string())) }
    }
}

impl FromStr for RequiredClaim {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((path, value)) => {
                Ok(Self { path: path.trim().parse()?, value: Some(value.trim().to_owned()) })
            }
            None => Ok(Self { path: text.parse()?, value: None }),
        }
    }
}

/// Whether a claim, or one of those in a list, is this text. Numbers and
/// booleans are compared by the text that JSON writes.
fn contains(claim: &Value, is_it: impl Fn(&str) -> bool + Copy) -> bool {
    match claim {
        Value::String(text) => is_it(text),
        Value::Number(number) => is_it(&number.to_string()),
        Value::Bool(flag) => is_it(if *flag { "true" } else { "false" }),
        Value::Array(items) => items.iter().any(|item| !item.is_array() && contains(item, is_it)),
        Value::Null | Value::Object(_) => false,
    }
}

/// What holds for a token whatever key it is signed with.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    audiences: Vec<String>,
    audience_claim: ClaimPath,
    issuers: Vec<String>,
    required: Vec<RequiredClaim>,
    user_claim: ClaimPath,
    leeway: Duration,
}

impl Rules {
    pub(super) fn new(config: &AuthConfig) -> Self {
        Self {
            audiences: config.audiences.clone(),
            audience_claim: config.audience_claim.clone(),
            issuers: config.issuers.clone(),
            required: config.required_claims.clone(),
            user_claim: config.user_claim.clone(),
            leeway: config.leeway,
        }
    }

    /// Who the token speaks for, if all that the settings ask of it is met.
    pub(super) fn identity(
        &self,
        claims: &Claims,
        now: SystemTime,
    ) -> Result<Identity, TokenError> {
        let expires_at = date(claims, "exp")?.ok_or(TokenError::ExpiryMissing)?;
        let ends_at = expires_at + self.leeway;
        if now > ends_at {
            return Err(TokenError::Expired);
        }
        if date(claims, "nbf")?.is_some_and(|begin| begin > now + self.leeway) {
            return Err(TokenError::NotYetValid);
        }
        if !self.audiences.is_empty() {
            let claim = self.audience_claim.as_str();
            let audience = self.audience_claim.find(claims).filter(|claim| !claim.is_null());
            let audience = audience.ok_or_else(|| TokenError::AudienceMissing(claim.to_owned()))?;
            if !contains(audience, |text| self.audiences.iter().any(|ours| ours == text)) {
                return Err(TokenError::Audience(claim.to_owned()));
            }
        }
        if !self.issuers.is_empty() {
            let issuer = claims.get("iss").filter(|claim| !claim.is_null());
            let issuer = issuer.ok_or(TokenError::IssuerMissing)?;
            if !contains(issuer, |text| self.issuers.iter().any(|ours| ours == text)) {
                return Err(TokenError::Issuer);
            }
        }
        self.required.iter().try_for_each(|required| required.check(claims))?;
        let user = self.user_claim.find(claims).filter(|claim| !claim.is_null());
        let user = user.ok_or_else(|| TokenError::UserMissing(self.user_claim.to_string()))?;
        let user = user_id(user).ok_or_else(|| TokenError::User(self.user_claim.to_string()))?;
        // Only a revocation asks for it, so that one of another type is like none.
        let issued_at = claims.get("iat").and_then(numeric_date);
        Ok(Identity { user, issued_at, expires_at, ends_at })
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

fn date(claims: &Claims, name: &'static str) -> Result<Option<SystemTime>, TokenError> {
    let claim = claims.get(name).filter(|claim| !claim.is_null());
    claim.map(|date| numeric_date(date).ok_or(TokenError::Date(name))).transpose()
}

/// NumericDate (RFC 7519, section 2) may have a fraction. Clamped to the year
/// 9999, the last that RFC 3339 can write.
fn numeric_date(date: &Value) -> Option<SystemTime> {
    const END_OF_9999: f64 = 253_402_300_799.0;
    let seconds = date.as_f64().filter(|s| s.is_finite() && *s >= 0.0)?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds.min(END_OF_9999)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn find(path: &str, claims: &Value) -> Option<Value> {
        let path: ClaimPath = path.parse().unwrap();
        path.find(claims.as_object().unwrap()).cloned()
    }

    #[test]
    fn a_claim_is_found_by_name_or_by_path_and_a_name_with_dots_wins() {
        let claims = json!({
            "sub": "a",
            "user": {"id": "b", "account.id": "c", "deep": {"id": "d"}},
            "user.name": "e",
            "https://example.com/user": {"id": "f"},
            "https://example.com/claims.id": "g",
            "text": "h",
        });
        for (path, found) in [
            ("sub", Some("a")),
            ("user.id", Some("b")),
            ("user.account.id", Some("c")),
            ("user.deep.id", Some("d")),
            ("user.name", Some("e")),
            ("https://example.com/user.id", Some("f")),
            ("https://example.com/claims.id", Some("g")),
            ("text.id", None),
            ("user.", None),
            (".user", None),
            ("user..id", None),
            ("nobody", None),
        ] {
            assert_eq!(find(path, &claims), found.map(Value::from), "{path}");
        }
    }

    #[test]
    fn a_required_claim_is_there_or_has_its_value_alone_or_in_a_list() {
        let claims = json!({
            "token_use": "access", "roles": ["a", "b"], "n": 7, "ok": true,
            "scope": "openid bell", "name": "Ada Lovelace",
        });
        let check = |text: &str| {
            let required: RequiredClaim = text.parse().unwrap();
            required.check(claims.as_object().unwrap())
        };
        for met in
            ["token_use=access", "token_use", "roles=b", "n=7", "ok=true", "n = 7", "scope=bell"]
        {
            assert_eq!(check(met), Ok(()), "{met}");
        }
        for wrong in
            ["token_use=id", "roles=c", "n=70", "ok=false", "token_use=", "scope=be", "name=Ada"]
        {
            let name = wrong.split_once('=').unwrap().0.to_owned();
            assert_eq!(check(wrong), Err(TokenError::Required(name)));
        }
        assert_eq!(check("acr=x"), Err(TokenError::RequiredMissing("acr".into())));
        assert!("=x".parse::<RequiredClaim>().is_err());
    }
}
