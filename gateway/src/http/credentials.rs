//! Where a request carries its token.

use std::borrow::Cow;

use http::{HeaderMap, header};
use percent_encoding::percent_decode_str;

use super::query::Query;

/// Which places are looked at besides the `Authorization` header.
#[derive(Clone, Debug)]
pub(crate) struct CredentialSources {
    /// The cookie's name.
    pub(crate) cookie: Option<String>,
    /// Whether the query parameter `access_token` counts.
    pub(crate) query: bool,
}

/// Why a request has no usable token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CredentialError {
    #[error("a token is needed")]
    Missing,
    #[error("the request carries two different tokens")]
    Contradiction,
    #[error("the cookie came with a request from another origin")]
    ForeignOrigin,
}

/// What a request proves itself with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Credentials<'a> {
    /// The token of its header or its query: only a page that has the token
    /// itself can send it there.
    Explicit(&'a str),
    /// What its cookies hold; the first that verifies counts. There is one at
    /// least.
    Cookies(Vec<Cow<'a, str>>),
}

/// Cookies of the name that are tried: a browser sends one for each path and
/// domain, and every one costs a signature.
const MAX_COOKIES: usize = 8;

impl CredentialSources {
    /// The token of the header, else of the query, else of the cookies, which
    /// are not looked at beside the other two: a browser adds them by itself.
    ///
    /// A cookie counts only with `is_own_page`: any page can make a browser
    /// send it.
    pub(crate) fn find<'a>(
        &self,
        headers: &'a HeaderMap,
        query: &'a Query<'_>,
        is_own_page: bool,
    ) -> Result<Credentials<'a>, CredentialError> {
        let mut explicit = bearer_tokens(headers);
        if self.query {
            explicit.extend(query.all("access_token").filter(|token| !token.is_empty()));
        }
        if let Some(token) = explicit.first() {
            let is_one = explicit.iter().all(|other| other == token);
            return if is_one {
                Ok(Credentials::Explicit(token))
            } else {
                Err(CredentialError::Contradiction)
            };
        }
        let cookies = self.cookie.as_deref().map(|name| cookie_tokens(headers, name));
        match cookies.filter(|tokens| !tokens.is_empty()) {
            None => Err(CredentialError::Missing),
            Some(_) if !is_own_page => Err(CredentialError::ForeignOrigin),
            Some(tokens) => Ok(Credentials::Cookies(tokens)),
        }
    }
}

fn bearer_tokens(headers: &HeaderMap) -> Vec<&str> {
    headers
        .get_all(header::AUTHORIZATION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .filter_map(|value| value.trim_ascii().split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim_ascii())
        .filter(|token| !token.is_empty())
        .collect()
}

fn cookie_tokens<'a>(headers: &'a HeaderMap, name: &str) -> Vec<Cow<'a, str>> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim_ascii().split_once('='))
        .filter(|(key, _)| *key == name)
        .filter_map(|(_, value)| cookie_token(value))
        .take(MAX_COOKIES)
        .collect()
}

/// The token of a cookie's value, as frameworks write it: bare, after
/// `Bearer `, in double quotes (RFC 6265 allows them), percent-encoded.
pub(crate) fn cookie_token(value: &str) -> Option<Cow<'_, str>> {
    let token = match decode(unquoted(value.trim_ascii()))? {
        Cow::Borrowed(value) => Cow::Borrowed(bare_token(value)),
        Cow::Owned(value) => Cow::Owned(bare_token(&value).to_owned()),
    };
    Some(token).filter(|token| !token.is_empty())
}

fn decode(value: &str) -> Option<Cow<'_, str>> {
    if value.contains('%') {
        percent_decode_str(value).decode_utf8().ok()
    } else {
        Some(value.into())
    }
}

fn bare_token(value: &str) -> &str {
    const SCHEME: &str = "bearer";
    let value = unquoted(value.trim_ascii()).trim_ascii();
    match value.split_at_checked(SCHEME.len()) {
        Some((scheme, "")) if scheme.eq_ignore_ascii_case(SCHEME) => "",
        // Forms encode a space as a plus sign, which no token holds.
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(SCHEME) => {
            rest.strip_prefix([' ', '+']).map_or(value, str::trim_ascii)
        }
        _ => value,
    }
}

fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
}

/// A browser names the page's origin on every request that leaves it; on one
/// that does not, it may say nothing.
/// <https://fetch.spec.whatwg.org/#origin-header>
pub(crate) fn is_same_origin(headers: &HeaderMap, own_host: Option<&str>) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return headers
            .get("sec-fetch-site")
            .is_none_or(|site| site == "same-origin" || site == "none");
    };
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    matches!((origin, own_host), (Some((_, page)), Some(host)) if page.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn token(target: &str, headers: &[(&str, &str)]) -> Result<String, CredentialError> {
        let sources = CredentialSources { cookie: Some("session".into()), query: true };
        let mut request = Request::builder().uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        let query = Query::parse(request.uri().query()).unwrap();
        let host = request.headers().get("host").and_then(|host| host.to_str().ok());
        let found =
            sources.find(request.headers(), &query, is_same_origin(request.headers(), host));
        found.map(|found| match found {
            Credentials::Explicit(token) => token.to_owned(),
            Credentials::Cookies(tokens) => tokens.join(" "),
        })
    }

    #[test]
    fn a_token_is_found_in_each_of_its_three_places() {
        for (target, headers) in [
            ("/", &[("authorization", "Bearer abc")][..]),
            ("/", &[("authorization", "bEaReR   abc ")]),
            ("/?access_token=abc", &[]),
            ("/?x=1&access_token=%61bc&", &[]),
            ("/", &[("cookie", "a=b; session=abc; c")]),
            ("/", &[("cookie", "a=b"), ("cookie", "session=\"abc\"")]),
            ("/?access_token=abc", &[("authorization", "Bearer abc"), ("cookie", "session=abc")]),
            // A cookie beside another token is not looked at.
            ("/", &[("authorization", "Bearer abc"), ("cookie", "session=x")]),
            ("/?access_token=abc", &[("cookie", "session=x")]),
            ("/", &[("authorization", "Basic eDp5"), ("cookie", "session=abc")]),
        ] {
            assert_eq!(token(target, headers).as_deref(), Ok("abc"), "{target} {headers:?}");
        }
    }

    #[test]
    fn a_cookie_is_read_as_frameworks_write_it() {
        for value in [
            "abc",
            "\"abc\"",
            "Bearer abc",
            "\"Bearer abc\"",
            "bearer  abc",
            "Bearer%20abc",
            "%22Bearer%20abc%22",
            "\"Bearer%20abc\"",
            "Bearer+abc",
            "%61bc",
        ] {
            assert_eq!(cookie_token(value).as_deref(), Some("abc"), "{value}");
        }
        for value in ["", "\"\"", "Bearer ", "%ff", "%22%22"] {
            assert_eq!(cookie_token(value), None, "{value}");
        }
        assert_eq!(cookie_token("bearerabc").as_deref(), Some("bearerabc"));
    }

    #[test]
    fn all_cookies_of_the_name_are_found_up_to_a_bound() {
        let found =
            token("/", &[("cookie", "session=a; other=x; session=b"), ("cookie", "session=c")]);
        assert_eq!(found.as_deref(), Ok("a b c"));
        let many = ["session=a"; 50].join("; ");
        assert_eq!(token("/", &[("cookie", &many)]).unwrap().len(), 2 * MAX_COOKIES - 1);
    }

    #[test]
    fn without_a_token_there_is_none() {
        for (target, headers) in [
            ("/", &[][..]),
            ("/?access_token=", &[]),
            ("/", &[("authorization", "Bearer")]),
            ("/", &[("authorization", "Bearer  ")]),
            ("/", &[("authorization", "Basic abc")]),
            ("/", &[("cookie", "other=abc")]),
            ("/", &[("cookie", "session=")]),
        ] {
            assert_eq!(
                token(target, headers),
                Err(CredentialError::Missing),
                "{target} {headers:?}"
            );
        }
    }

    #[test]
    fn two_different_tokens_are_a_contradiction_wherever_they_are() {
        for (target, headers) in [
            ("/?access_token=x", &[("authorization", "Bearer abc")][..]),
            ("/?access_token=x&access_token=y", &[]),
            ("/", &[("authorization", "Bearer abc"), ("authorization", "Bearer x")]),
            ("/?access_token=x", &[("authorization", "Bearer abc"), ("cookie", "session=abc")]),
        ] {
            assert_eq!(
                token(target, headers),
                Err(CredentialError::Contradiction),
                "{target} {headers:?}"
            );
        }
    }

    #[test]
    fn a_cookie_counts_only_from_the_pages_own_origin() {
        let cookie = ("cookie", "session=abc");
        let host = ("host", "app.example:8443");
        for (origin, ok) in [
            ("https://app.example:8443", true),
            ("https://APP.example:8443", true),
            ("https://evil.example", false),
            ("https://app.example", false),
            ("null", false),
        ] {
            let found = token("/", &[cookie, host, ("origin", origin)]);
            assert_eq!(found.is_ok(), ok, "{origin}: {found:?}");
        }
        assert!(token("/", &[cookie, host, ("sec-fetch-site", "same-origin")]).is_ok());
        assert!(token("/", &[cookie, host, ("sec-fetch-site", "same-site")]).is_err());
        // With the token in hand the page could have sent it from anywhere.
        let evil = ("origin", "https://evil.example");
        assert!(token("/?access_token=abc", &[cookie, host, evil]).is_ok());
    }

    #[test]
    fn the_query_is_left_alone_where_it_is_switched_off() {
        let sources = CredentialSources { cookie: None, query: false };
        let request = Request::builder().uri("/?access_token=abc").body(()).unwrap();
        let query = Query::parse(request.uri().query()).unwrap();
        assert_eq!(sources.find(request.headers(), &query, true), Err(CredentialError::Missing));
    }
}
