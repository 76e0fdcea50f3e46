//! What has to hold for any bytes that a stranger sends or an operator writes. The fuzz targets in
//! `fuzz/` look for bytes for which it does not; the tests below try random
//! ones and the seeds.

#![allow(clippy::expect_used, reason = "a panic is how a property says that it does not hold")]

use std::net::{IpAddr, SocketAddr};

use bytes::BytesMut;
use http::{HeaderValue, Request, header};
use ipnet::IpNet;

use crate::{
    auth::ClaimPath,
    config::parse_database_url,
    cursor::{Cursor, MAX_LEN, Snapshot},
    http::{
        address::{client_address, own_host},
        credentials::{CredentialError, CredentialSources, Credentials, cookie_token},
        query::Query,
    },
    notification::Payload,
    server::head::{self, Head},
    sse,
};

/// What anyone may NOTIFY: an event that is made of it has the data that was
/// sent, and no more than one event comes of it.
///
/// # Panics
///
/// When it does not hold; so do the others.
pub fn payload(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(Payload::Event(row)) = Payload::decode(text) else { return };
    let mut event = sse::notification(row.event, row.data);
    sse::finish(&mut event, |out| Cursor::new(1, Snapshot::empty().into()).encode(out));
    // As the standard's parser reads it.
    let event = String::from_utf8(event).expect("text stays text");
    let lines: Vec<&str> = event.split("\r\n").flat_map(|part| part.split(['\r', '\n'])).collect();
    let blank = lines.iter().position(|line| line.is_empty()).expect("an end");
    assert_eq!(lines[blank..], ["", ""], "one event and nothing after it");
    assert_eq!(lines[0], format!("event: {}", row.event.as_str()));
    assert!(lines[blank - 1].starts_with("id: "), "{}", lines[blank - 1]);
    let data: Vec<&str> = lines[1..blank - 1]
        .iter()
        .map(|line| line.strip_prefix("data: ").expect("data and nothing else"))
        .collect();
    let sent: serde_json::Value = serde_json::from_str(row.data).unwrap_or_default();
    let got: serde_json::Value = serde_json::from_str(&data.join("\n")).unwrap_or_default();
    assert_eq!(sent, got, "what was sent");
}

/// What a client sends back as a cursor: it is refused, or it says what it said
/// when it is written again, within its limit.
pub fn cursor(bytes: &[u8]) {
    let Ok(cursor) = Cursor::parse(bytes) else { return };
    let mut text = Vec::new();
    if cursor.encode(&mut text) {
        assert!(text.len() <= MAX_LEN, "{} characters", text.len());
        assert!(HeaderValue::from_bytes(&text).is_ok(), "a header can carry it");
        let again = Cursor::parse(&text).expect("what was written can be read");
        assert_eq!(again, cursor, "a cursor says the same when it is read again");
    }
}

/// What an operator writes as the database URL: it is understood or refused,
/// and what stands where a value belongs is never shown.
pub fn database_url(bytes: &[u8]) {
    const VALUE: &str = "HUNTER2";
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // A file that is named is read, and some never end.
    if ["sslrootcert", "sslcert", "sslkey"].iter().any(|name| text.contains(name)) {
        return;
    }
    let key: String = text.chars().take_while(|c| !matches!(c, '=' | '&' | '@')).collect();
    for url in [
        text.to_owned(),
        format!("postgres://u:{VALUE}{text}"),
        format!("postgres://u:{VALUE}{text}@h/d"),
        format!("postgres://h/d?{key}={VALUE}{text}"),
    ] {
        match parse_database_url(&url) {
            Ok(database) => {
                let names = database.left_out.join(" ");
                assert!(!names.contains(VALUE) || text.contains(VALUE), "{names}");
            }
            Err(error) => {
                let shown = format!("{error} {error:?}");
                assert!(!shown.contains(VALUE) || text.contains(VALUE), "{shown}");
            }
        }
    }
}

/// What a client sends as a request: wherever its token is, there is one or
/// none; and nobody but a trusted proxy says where it comes from.
pub fn request(bytes: &[u8]) {
    let mut buffer = BytesMut::from(bytes);
    let Ok(Some(Head::Request(mut request, ..))) = head::parse(&mut buffer, 0, true) else {
        return;
    };
    token(&mut request);
    address(&request);
}

fn token(request: &mut Request<()>) {
    let sources = CredentialSources { cookie: Some("session".into()), query: true };
    let target = request.uri().clone();
    let Ok(query) = Query::parse(target.query()) else { return };
    let found = sources.find(request.headers(), &query, true);
    let is_another = found == Ok(Credentials::Explicit("another"));
    let expected = match found {
        Ok(Credentials::Explicit(token)) => {
            assert!(!token.is_empty(), "a token is something");
            if is_another {
                Ok(Credentials::Explicit("another"))
            } else {
                Err(CredentialError::Contradiction)
            }
        }
        // A header counts before any cookie.
        Ok(Credentials::Cookies(tokens)) => {
            assert!(!tokens.is_empty() && tokens.iter().all(|token| !token.is_empty()));
            Ok(Credentials::Explicit("another"))
        }
        Err(CredentialError::Missing) => Ok(Credentials::Explicit("another")),
        Err(error) => Err(error),
    };
    let another = HeaderValue::from_static("Bearer another");
    request.headers_mut().append(header::AUTHORIZATION, another);
    assert_eq!(sources.find(request.headers(), &query, true), expected, "two tokens");
}

/// What a browser sends as the cookie's value: a token in it is found in
/// whatever dress frameworks put it, and there is one or none.
pub fn cookie(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(token) = cookie_token(text) {
        assert!(!token.is_empty(), "a token is something");
    }
    // What a token is made of (RFC 7515, section 3.1).
    let is_token = |c: &char| c.is_ascii_alphanumeric() || "-_.".contains(*c);
    let token: String = text.chars().filter(is_token).collect();
    if token.is_empty() || token.eq_ignore_ascii_case("bearer") {
        return;
    }
    for value in [
        token.clone(),
        format!("\"{token}\""),
        format!("Bearer {token}"),
        format!("\"Bearer {token}\""),
        format!("Bearer%20{token}"),
        format!("%22Bearer%20{token}%22"),
    ] {
        assert_eq!(cookie_token(&value).as_deref(), Some(token.as_str()), "{value}");
    }
}

/// A path of a claim in the settings, and claims: what is found is there, and a
/// claim of that very name wins. The path is the first line, the claims the rest.
pub fn claim(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (path, claims) = text.split_once('\n').unwrap_or((text, "{}"));
    let Ok(parsed) = path.parse::<ClaimPath>() else { return };
    let Ok(claims) = serde_json::from_str::<serde_json::Map<_, _>>(claims) else { return };
    let found = parsed.find(&claims);
    if let Some(named) = claims.get(path) {
        assert_eq!(found, Some(named), "the name wins");
    }
    // One level deeper it is the same value, unless a name of that level wins.
    let nested = serde_json::Map::from_iter([("outer".to_owned(), claims.clone().into())]);
    if let Ok(deeper) = format!("outer.{path}").parse::<ClaimPath>() {
        assert_eq!(deeper.find(&nested), found, "one level deeper");
    }
}

fn address(request: &Request<()>) {
    let proxy: IpNet = IpNet::from(IpAddr::from([10, 0, 0, 1]));
    let stranger = SocketAddr::from(([192, 0, 2, 1], 7));
    let seen = client_address(stranger, request.headers(), &[proxy]);
    assert_eq!(seen, Some(stranger.ip()), "a stranger comes from where it comes from");
    let host = own_host(Some(stranger), request, &[proxy]).map(str::to_owned);
    let mut lying = request.clone();
    lying.headers_mut().insert("x-forwarded-host", HeaderValue::from_static("evil.example"));
    assert_eq!(own_host(Some(stranger), &lying, &[proxy]).map(str::to_owned), host);

    // Behind the proxy, what the proxy adds counts, whatever was there before.
    let mut forwarded = request.clone();
    forwarded.headers_mut().append("x-forwarded-for", HeaderValue::from_static("198.51.100.7"));
    let peer = SocketAddr::from(([10, 0, 0, 1], 7));
    let seen = client_address(peer, forwarded.headers(), &[proxy]);
    assert_eq!(seen, Some(IpAddr::from([198, 51, 100, 7])), "the last word is the proxy's");
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use proptest::prelude::*;

    use super::*;

    const ROW: &str = concat!(
        r#"{"xact_id":"745","seq":12,"user_id":"#,
        r#""11111111-2222-3333-4444-555555555555","data":{"title":"a"}}"#
    );

    #[test]
    fn the_seeds_and_what_was_found_hold() {
        for (target, check) in [
            ("payload", payload as fn(&[u8])),
            ("cursor", cursor),
            ("request", request),
            ("database_url", database_url),
            ("cookie", cookie),
            ("claim", claim),
        ] {
            let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
            let seeds: Vec<_> = fs::read_dir(seeds).unwrap().map(|seed| seed.unwrap()).collect();
            assert!(seeds.len() >= 5, "{target}");
            for seed in seeds {
                check(&fs::read(seed.path()).unwrap());
            }
        }
    }

    proptest! {
        #[test]
        fn any_row_holds(data in "\\PC{0,60}", key in "[\r\n\t a-z\"\\\\:{}\\[\\]]{0,20}") {
            let json = serde_json::json!({ key: data });
            payload(ROW.replace(r#"{"title":"a"}"#, &json.to_string()).as_bytes());
            // White space between tokens may be a line end.
            let pretty = serde_json::to_string_pretty(&json).unwrap().replace('\n', "\r\n");
            payload(ROW.replace(r#"{"title":"a"}"#, &pretty).as_bytes());
        }

        #[test]
        fn any_text_as_a_cursor_holds(text in "[A-Za-z0-9_-]{0,200}") {
            cursor(text.as_bytes());
        }

        #[test]
        fn any_request_holds(
            query in "[a-z_=&%0-9]{0,40}",
            fields in proptest::collection::vec(
                (
                    prop_oneof![
                        Just("authorization"), Just("cookie"), Just("x-forwarded-for"),
                        Just("forwarded"), Just("x-forwarded-host"), Just("origin"),
                    ],
                    "(Bearer |bearer  |session=|for=|\"?\\[?)[a-z0-9.:;=, \"\\]]{0,30}",
                ),
                0..6,
            ),
        ) {
            let mut text = format!("GET /?{query} HTTP/1.1\r\nhost: x\r\n");
            for (name, value) in fields {
                text += &format!("{name}: {value}\r\n");
            }
            request((text + "\r\n").as_bytes());
        }

        #[test]
        fn any_bytes_hold(bytes: Vec<u8>) {
            payload(&bytes);
            cursor(&bytes);
            request(&bytes);
            database_url(&bytes);
            cookie(&bytes);
            claim(&bytes);
        }

        #[test]
        fn any_cookie_holds(text in "(\"|%22|%)?([Bb]earer( |%20|\\+)?)?[A-Za-z0-9._%\"-]{0,20}") {
            cookie(text.as_bytes());
        }

        #[test]
        fn any_claim_holds(path in "[ab.]{1,8}", claims in "\\{(\"[ab.]{0,3}\":(1|\\{(\"[ab.]{0,3}\":2)?\\}),?){0,4}") {
            let claims = claims.trim_end_matches(',');
            claim(format!("{path}\n{claims}}}").as_bytes());
        }

        #[test]
        fn any_database_url_holds(text in "(postgres://)?[@:/?#%&=a-z0-9]{0,40}") {
            database_url(text.as_bytes());
        }
    }
}
