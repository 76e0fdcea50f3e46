//! Where a request carries its token.

use http::{HeaderMap, header};

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

impl CredentialSources {
    /// The one token of the request, wherever it is; the same token in two
    /// places is one. (RFC 6750, section 2, forbids even that; browsers that
    /// send a cookie along with a header do it without asking.)
    ///
    /// A cookie counts only with `is_own_page`: any page can make a browser
    /// send it.
    pub(crate) fn token(
        &self,
        headers: &HeaderMap,
        query: &Query<'_>,
        is_own_page: bool,
    ) -> Result<String, CredentialError> {
        let mut explicit = bearer_tokens(headers);
        if self.query {
            explicit.extend(query.all("access_token").filter(|token| !token.is_empty()));
        }
        let cookies = self.cookie.as_deref().map(|name| cookie_tokens(headers, name));
        let cookies = cookies.unwrap_or_default();
        // Only a page that has the token itself can send it in a header or in
        // the query.
        if explicit.is_empty() && !cookies.is_empty() && !is_own_page {
            return Err(CredentialError::ForeignOrigin);
        }
        let mut tokens = explicit.into_iter().chain(cookies);
        let token = tokens.next().ok_or(CredentialError::Missing)?;
        if tokens.any(|other| other != token) {
            return Err(CredentialError::Contradiction);
        }
        Ok(token.to_owned())
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

fn cookie_tokens<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim_ascii().split_once('='))
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| {
            // RFC 6265 allows the value in double quotes.
            value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value)
        })
        .filter(|token| !token.is_empty())
        .collect()
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
        sources.token(request.headers(), &query, is_same_origin(request.headers(), host))
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
            ("/", &[("authorization", "Basic eDp5"), ("cookie", "session=abc")]),
        ] {
            assert_eq!(token(target, headers).as_deref(), Ok("abc"), "{target} {headers:?}");
        }
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
            ("/", &[("authorization", "Bearer abc"), ("cookie", "session=x")]),
            ("/", &[("cookie", "session=abc; session=x")]),
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
        assert_eq!(sources.token(request.headers(), &query, true), Err(CredentialError::Missing));
    }
}
