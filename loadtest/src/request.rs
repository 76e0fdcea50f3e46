//! The request that opens a stream: a template, so that any server's way of
//! naming the user and taking the token can be said.

use std::net::{SocketAddr, ToSocketAddrs as _};

use serde::{Deserialize, Serialize};

/// How a stream that comes back says where it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Resume {
    Header(String),
    Query(String),
    No,
}

impl std::str::FromStr for Resume {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "no" => Ok(Self::No),
            Some(("header", name)) if !name.is_empty() => Ok(Self::Header(name.to_owned())),
            Some(("query", name)) if !name.is_empty() => Ok(Self::Query(name.to_owned())),
            _ => Err("expected header:NAME, query:NAME or no".to_owned()),
        }
    }
}

/// A request with `{token}` and `{user}` in it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RequestTemplate {
    /// Path and query.
    pub(crate) target: String,
    pub(crate) host: String,
    /// Whole lines, without their ends.
    pub(crate) headers: Vec<String>,
    pub(crate) resume: Resume,
}

impl RequestTemplate {
    /// The bytes to send; `cursor` is empty at the first connect.
    pub(crate) fn render(&self, user: &str, token: &str, cursor: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(256 + token.len() + cursor.len());
        out.extend_from_slice(b"GET ");
        fill(&mut out, &self.target, user, token);
        if let (Resume::Query(name), false) = (&self.resume, cursor.is_empty()) {
            let joint = if self.target.contains('?') { '&' } else { '?' };
            out.extend_from_slice(format!("{joint}{name}=").as_bytes());
            // It is opaque: escaped to the last byte.
            cursor.iter().for_each(|byte| out.extend_from_slice(format!("%{byte:02X}").as_bytes()));
        }
        out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
        out.extend_from_slice(self.host.as_bytes());
        out.extend_from_slice(b"\r\nAccept: text/event-stream\r\nCache-Control: no-cache\r\n");
        for header in &self.headers {
            fill(&mut out, header, user, token);
            out.extend_from_slice(b"\r\n");
        }
        if let (Resume::Header(name), false) = (&self.resume, cursor.is_empty()) {
            out.extend_from_slice(format!("{name}: ").as_bytes());
            out.extend_from_slice(cursor);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
        out
    }
}

/// `template` with the user and the token in their places.
pub(crate) fn fill(out: &mut Vec<u8>, template: &str, user: &str, token: &str) {
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at..];
        let (value, length) = if rest.starts_with("{token}") {
            (token, "{token}".len())
        } else if rest.starts_with("{user}") {
            (user, "{user}".len())
        } else {
            ("{", 1)
        };
        out.extend_from_slice(value.as_bytes());
        rest = &rest[length..];
    }
    out.extend_from_slice(rest.as_bytes());
}

/// An `http://host[:port]/path?query`, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    /// As the `Host` header has it.
    pub(crate) host: String,
    pub(crate) address: SocketAddr,
    /// Path and query, `/` at least.
    pub(crate) target: String,
}

impl Url {
    /// Parses and resolves.
    ///
    /// # Errors
    ///
    /// Another scheme, or a host without an address.
    pub(crate) fn parse(text: &str) -> Result<Self, UrlError> {
        let rest = text.strip_prefix("http://").ok_or_else(|| UrlError::Scheme(text.to_owned()))?;
        let at = rest.find('/').unwrap_or(rest.len());
        let (host, target) = rest.split_at(at);
        // After the port's colon, not one of an IPv6 address's.
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let name = if has_port { host.to_owned() } else { format!("{host}:80") };
        let address = name
            .to_socket_addrs()
            .map_err(|source| UrlError::Resolve { host: host.to_owned(), source })?
            .next()
            .ok_or_else(|| UrlError::NoAddress(host.to_owned()))?;
        let target = if target.is_empty() { "/" } else { target };
        Ok(Self { host: host.to_owned(), address, target: target.to_owned() })
    }
}

/// A URL that leads nowhere.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UrlError {
    /// TLS is another thing to measure.
    #[error("{0}: only http:// is measured; put the test behind the proxy that ends TLS")]
    Scheme(String),
    #[error("{host} is not known")]
    Resolve { host: String, source: std::io::Error },
    #[error("{0} has no address")]
    NoAddress(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(resume: Resume) -> RequestTemplate {
        RequestTemplate {
            target: "/s/{user}?t={token}".into(),
            host: "h:1".into(),
            headers: vec!["Authorization: Bearer {token}".into(), "X: {other}".into()],
            resume,
        }
    }

    #[test]
    fn user_and_token_stand_where_the_template_wants_them() {
        let request = template(Resume::No).render("u1", "t1", b"ignored");
        let expected = "GET /s/u1?t=t1 HTTP/1.1\r\nHost: h:1\r\nAccept: text/event-stream\r\n\
            Cache-Control: no-cache\r\nAuthorization: Bearer t1\r\nX: {other}\r\n\r\n";
        assert_eq!(String::from_utf8(request).unwrap(), expected);
    }

    #[test]
    fn a_cursor_goes_back_by_header_or_by_query() {
        let by =
            |resume, cursor| String::from_utf8(template(resume).render("u", "t", cursor)).unwrap();
        let header = Resume::Header("Last-Event-ID".into());
        assert!(by(header.clone(), b"a/b").contains("\r\nLast-Event-ID: a/b\r\n\r\n"));
        assert!(!by(header, b"").contains("Last-Event-ID"));
        let query = by(Resume::Query("c".into()), b"a/b");
        assert!(query.starts_with("GET /s/u?t=t&c=%61%2F%62 HTTP/1.1\r\n"), "{query}");
    }

    #[test]
    fn a_url_is_a_host_an_address_and_a_target() {
        let url = Url::parse("http://127.0.0.1:8080/a?b={token}").unwrap();
        assert_eq!(url.host, "127.0.0.1:8080");
        assert_eq!(url.address, ([127, 0, 0, 1], 8080).into());
        assert_eq!(url.target, "/a?b={token}");
        assert_eq!(Url::parse("http://127.0.0.1").unwrap().address.port(), 80);
        assert!(Url::parse("https://127.0.0.1/").is_err());
    }
}
