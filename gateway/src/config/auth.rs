//! Who may connect: the `JWT_…` settings and the files they name.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::{ArgAction, builder::BoolishValueParser};
use http::Uri;

use super::{AUTH, ConfigError, List, values::parse_list};
use crate::{
    auth::{
        AuthConfig, ClaimPath, JwksSource, ProxiedConnector, RequiredClaim, VerifyingKey,
        parse_key_set,
    },
    secret::{Secret, SigningSecret},
    tls::{self, Trust},
};

const SECRET: &str = "--jwt-secret (JWT_SECRET, JWT_SECRET_FILE)";
const PUBLIC_KEY_FILE: &str = "--jwt-public-key-file (JWT_PUBLIC_KEY_FILE)";
const JWKS_FILE: &str = "--jwt-jwks-file (JWT_JWKS_FILE)";
const JWKS_URL: &str = "--jwt-jwks-url (JWT_JWKS_URL)";

/// The settings that say who may connect, as written.
#[derive(Clone, Debug, clap::Args)]
pub struct AuthSettings {
    /// The secret that verifies tokens by HS256, HS384 or HS512: text, or `base64:…`.
    ///
    /// One key of some kind is required: this, a public key or a key set. Keys of several kinds
    /// count side by side, so that a key can be replaced without a gap. The log warns of a weak
    /// secret at the start.
    #[arg(long, env = "JWT_SECRET", hide_env_values = true, value_name = "SECRET",
          help_heading = AUTH)]
    pub jwt_secret: Option<Secret>,
    /// A file that holds the secret.
    ///
    /// A file of text loses the line ends at its end; a file that is not UTF-8 is taken byte for
    /// byte. Set this or the secret itself, never both. SIGHUP reads the file again.
    #[arg(long, env = "JWT_SECRET_FILE", value_name = "FILE", help_heading = AUTH)]
    pub jwt_secret_file: Option<PathBuf>,
    /// A file of public keys in PEM, one or several: RSA (RS and PS), EC (ES256, ES384), Ed25519
    /// (EdDSA).
    ///
    /// SIGHUP reads the file again.
    #[arg(long, env = "JWT_PUBLIC_KEY_FILE", value_name = "FILE", help_heading = AUTH)]
    pub jwt_public_key_file: Option<PathBuf>,
    /// The address where the issuer publishes its public keys as a key set (JWKS, RFC 7517).
    ///
    /// The set is fetched at the start and every ten minutes. While it has never been fetched and
    /// there is no other key, every token gets a 503 (`no-keys`).
    #[arg(long, env = "JWT_JWKS_URL", value_parser = parse_jwks_url, value_name = "URL",
          help_heading = AUTH)]
    pub jwt_jwks_url: Option<Uri>,
    /// A file that holds a key set (JWKS, RFC 7517).
    ///
    /// SIGHUP reads the file again.
    #[arg(long, env = "JWT_JWKS_FILE", value_name = "FILE", help_heading = AUTH)]
    pub jwt_jwks_file: Option<PathBuf>,
    /// The audiences of which a token has to have one, separated by commas.
    ///
    /// Unless set, the audience is not checked, and every token of the issuer opens a stream, one
    /// for a password reset included: the log warns of it. A token of another audience gets a 401.
    #[arg(long, env = "JWT_AUDIENCE", value_parser = parse_names, value_name = "NAMES",
          help_heading = AUTH)]
    pub jwt_audience: Option<List<String>>,
    /// The claim that is compared with the audience.
    ///
    /// Set it for issuers that use another claim than `aud`: `client_id` for the access tokens of
    /// Cognito, `azp` for Clerk.
    #[arg(long, env = "JWT_AUDIENCE_CLAIM", default_value = "aud", value_name = "CLAIM",
          help_heading = AUTH)]
    pub jwt_audience_claim: ClaimPath,
    /// The issuers (`iss`) of which a token has to have one, separated by commas.
    ///
    /// Unless set, the issuer is not checked. A token of another issuer gets a 401.
    #[arg(long, env = "JWT_ISSUER", value_parser = parse_names, value_name = "NAMES",
          help_heading = AUTH)]
    pub jwt_issuer: Option<List<String>>,
    /// Further claims that a token has to have, with or without a value, separated by commas:
    /// `token_use=access,email_verified=true`.
    ///
    /// In `scope` and `scp` each word counts. A token without them gets a 401 that names the
    /// claim.
    #[arg(long, env = "JWT_REQUIRED_CLAIMS", value_parser = parse_required, value_name = "CLAIMS",
          help_heading = AUTH)]
    pub jwt_required_claims: Option<List<RequiredClaim>>,
    /// The claim that names the user: a name, or a path into nested objects such as `user.id`.
    ///
    /// It holds text or a whole number, and is compared with the user of each row as text; UUIDs
    /// are compared in their canonical form.
    #[arg(long, env = "JWT_USER_CLAIM", default_value = "sub", value_name = "CLAIM",
          help_heading = AUTH)]
    pub jwt_user_claim: ClaimPath,
    /// How far the clocks of this machine and of the issuer may be apart.
    ///
    /// A token counts for this long after `exp` and before `nbf`; its stream ends by then. Whole
    /// seconds. From 0s to 10m.
    #[arg(long, env = "JWT_LEEWAY", default_value = "5s",
          value_parser = parse_leeway, value_name = "DURATION", help_heading = AUTH)]
    pub jwt_leeway: Duration,
    /// The name of the cookie that may hold the token.
    ///
    /// Unless set, no cookie is looked at. A cookie counts only from the page's own origin or from
    /// one of --cors-origins; another page gets a 403 (`foreign-origin`).
    #[arg(long, env = "JWT_COOKIE", value_name = "NAME", help_heading = AUTH)]
    pub jwt_cookie: Option<String>,
    /// Whether the query parameter `access_token` may hold the token.
    ///
    /// A native `EventSource` can send a token in no other way than this and a cookie. False keeps
    /// tokens out of the access log of your proxy.
    #[arg(long, env = "GATEWAY_QUERY_TOKEN", default_value = "true",
          action = ArgAction::Set, value_parser = BoolishValueParser::new(), value_name = "BOOL",
          help_heading = AUTH)]
    pub query_token: bool,
}

impl AuthSettings {
    /// Who may connect, with the files as they are now.
    ///
    /// # Errors
    ///
    /// No key, or a file that cannot be read.
    pub fn config(&self) -> Result<AuthConfig, ConfigError> {
        let secret = self.secret()?;
        let mut public_keys = Vec::new();
        if let Some(file) = named(&self.jwt_public_key_file) {
            public_keys.extend(pem_keys(file)?);
        }
        if let Some(file) = named(&self.jwt_jwks_file) {
            let (setting, json) = (JWKS_FILE, read(JWKS_FILE, file)?);
            public_keys.extend(parse_key_set(&json).map_err(|source| ConfigError::KeySet {
                setting,
                file: file.to_owned(),
                source,
            })?);
        }
        if secret.is_none() && public_keys.is_empty() && self.jwt_jwks_url.is_none() {
            return Err(ConfigError::Missing {
                setting: "a key: --jwt-secret (JWT_SECRET, JWT_SECRET_FILE), \
                          --jwt-public-key-file (JWT_PUBLIC_KEY_FILE), \
                          --jwt-jwks-url (JWT_JWKS_URL) or --jwt-jwks-file (JWT_JWKS_FILE)",
                example: "the secret your application signs its tokens with",
            });
        }
        Ok(AuthConfig {
            secret,
            public_keys,
            jwks: self.jwks()?,
            audiences: items(&self.jwt_audience),
            audience_claim: self.jwt_audience_claim.clone(),
            issuers: items(&self.jwt_issuer),
            required_claims: items(&self.jwt_required_claims),
            user_claim: self.jwt_user_claim.clone(),
            leeway: self.jwt_leeway,
            cookie: self.jwt_cookie.clone().filter(|name| !name.is_empty()),
            query_token: self.query_token,
        })
    }

    fn secret(&self) -> Result<Option<SigningSecret>, ConfigError> {
        let wrong = |source| ConfigError::Secret { setting: SECRET, source };
        let value = self.jwt_secret.as_ref().filter(|secret| !secret.expose().is_empty());
        match (value, named(&self.jwt_secret_file)) {
            (Some(_), Some(_)) => Err(ConfigError::Twice { setting: SECRET }),
            (None, None) => Ok(None),
            (Some(value), None) => SigningSecret::parse(value.expose()).map(Some).map_err(wrong),
            (None, Some(file)) => {
                let secret = SigningSecret::from_file(&read(SECRET, file)?).map_err(wrong)?;
                if secret.expose().is_empty() {
                    // An empty secret would verify anyone's tokens.
                    return Err(ConfigError::Empty { setting: SECRET, file: file.to_owned() });
                }
                Ok(Some(secret))
            }
        }
    }

    fn jwks(&self) -> Result<Option<JwksSource>, ConfigError> {
        let Some(url) = self.jwt_jwks_url.clone() else { return Ok(None) };
        let wrong = |source| ConfigError::Jwks { setting: JWKS_URL, source };
        let tls = tls::client_config(Trust::of(&url).map_err(wrong)?, None).map_err(wrong)?;
        let connector = ProxiedConnector::from_env(&url)
            .map_err(|source| ConfigError::Proxy { setting: JWKS_URL, source })?;
        Ok(Some(JwksSource { url, tls: Arc::new(tls), connector }))
    }
}

/// What works and is dangerous, for the log at the start; one line each.
pub fn warnings(config: &AuthConfig) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(weakness) = config.secret.as_ref().and_then(SigningSecret::weakness) {
        warnings.push(format!(
            "{SECRET} is weak: {weakness}; anyone who finds it out can be any user. \
             `openssl rand -base64 32` makes a good one, written as base64:…"
        ));
    }
    if config.audiences.is_empty() && config.required_claims.is_empty() {
        warnings.push(
            "--jwt-audience (JWT_AUDIENCE) is not set: every token of the issuer opens a \
             stream, those for password resets, refreshing and identity included; set it to the \
             audience of your access tokens, or require a claim that only they have \
             (--jwt-required-claims, JWT_REQUIRED_CLAIMS)"
                .to_owned(),
        );
    }
    if config.jwks.as_ref().is_some_and(|source| !source.is_safe()) {
        warnings.push(format!(
            "{JWKS_URL} is plain HTTP: anyone on the way there can choose the keys and be any \
             user; use https"
        ));
    }
    warnings
}

fn pem_keys(file: &Path) -> Result<Vec<VerifyingKey>, ConfigError> {
    let content = read(PUBLIC_KEY_FILE, file)?;
    // What is not text has no PEM in it, and the parser says so.
    VerifyingKey::parse_pem(&String::from_utf8_lossy(&content)).map_err(|source| ConfigError::Key {
        setting: PUBLIC_KEY_FILE,
        file: file.to_owned(),
        source,
    })
}

fn read(setting: &'static str, file: &Path) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(file).map_err(|source| ConfigError::File {
        setting,
        file: file.to_owned(),
        source,
    })
}

/// A file that is set; an empty name counts as not set.
fn named(file: &Option<PathBuf>) -> Option<&Path> {
    file.as_deref().filter(|file| !file.as_os_str().is_empty())
}

fn items<T: Clone>(list: &Option<List<T>>) -> Vec<T> {
    list.as_ref().map(|list| list.0.clone()).unwrap_or_default()
}

fn parse_names(s: &str) -> Result<List<String>, String> {
    parse_list(s, |name| Ok(name.to_owned()))
}

fn parse_required(s: &str) -> Result<List<RequiredClaim>, String> {
    parse_list(s, str::parse)
}

fn parse_jwks_url(s: &str) -> Result<Uri, String> {
    let expected = || "a URL such as https://id.example.com/.well-known/jwks.json".to_owned();
    let uri: Uri = s.parse().map_err(|_| expected())?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    if is_http && uri.host().is_some() { Ok(uri) } else { Err(expected()) }
}

pub(super) fn parse_leeway(s: &str) -> Result<Duration, String> {
    const MAX: Duration = Duration::from_secs(10 * 60);
    humantime::parse_duration(s)
        .ok()
        .filter(|leeway| leeway.subsec_nanos() == 0 && *leeway <= MAX)
        .ok_or_else(|| "a leeway is in whole seconds, at most 10m, such as 5s".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Command {
        #[command(flatten)]
        auth: AuthSettings,
    }

    fn config(args: &[&str]) -> Result<AuthConfig, ConfigError> {
        let args = [&["gateway"], args].concat();
        Command::try_parse_from(args).unwrap().auth.config()
    }

    const GOOD: &str = "sixteen words of a sentence nobody else has";

    #[test]
    fn lists_are_separated_by_commas_and_empty_ones_check_nothing() {
        let args = ["--jwt-secret", GOOD, "--jwt-audience", "a, b", "--jwt-issuer", ""];
        let config = config(&args).unwrap();
        assert_eq!(config.audiences, ["a", "b"]);
        assert!(config.issuers.is_empty() && config.required_claims.is_empty());
    }

    #[test]
    fn a_binary_secret_is_taken_byte_for_byte() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, [0xfe, 0xff, b'\n']).unwrap();
        let path = file.path().to_str().unwrap();
        let secret = config(&["--jwt-secret-file", path]).unwrap().secret.unwrap();
        assert_eq!(secret.expose(), [0xfe, 0xff, b'\n']);
        assert!(matches!(config(&["--jwt-secret", "base64:?"]), Err(ConfigError::Secret { .. })));
    }

    #[test]
    fn a_key_set_file_without_a_key_is_refused_by_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        for (content, part) in
            [("", "JSON Web Key Set"), (r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#, "symmetric")]
        {
            std::fs::write(&file, content).unwrap();
            let error = config(&["--jwt-jwks-file", path]).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("JWT_JWKS_FILE"), "{error}");
            assert!(error.contains(path), "{error}");
        }
    }

    #[test]
    fn what_is_dangerous_is_said_and_what_is_not_is_silent() {
        let warned = |args: &[&str]| warnings(&config(args).unwrap()).join("\n");
        let quiet = ["--jwt-secret", GOOD, "--jwt-audience", "bell"];
        assert_eq!(warned(&quiet), "");
        assert!(warned(&quiet[..2]).contains("JWT_AUDIENCE"));
        assert!(warned(&["--jwt-secret", "secret"]).contains("JWT_SECRET"));
        let url = [&quiet[..], &["--jwt-jwks-url", "http://id.example.com/keys"]].concat();
        assert!(warned(&url).contains("plain HTTP"));
    }
}
