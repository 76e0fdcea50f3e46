//! The tokens that issuers of the field make, each with the settings it needs.
//! Their shapes are those of the issuers' public documentation.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header};
use notify_gateway::http::STREAM_PATH;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    Authority, Database, EventSource, KeyHost, Process, SECRET, Signer, TestGateway, eventually,
    request, token, tunnel,
};

const USER: &str = "5a1c4f8e-9f0b-4b8e-8a53-0c8c3f7a2b11";

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// One issuer: its claims, what a gateway is told, and the same claims with one
/// of them wrong, with a part of what the 401 says.
struct Issuer {
    name: &'static str,
    is_hs256: bool,
    claims: Value,
    settings: Vec<&'static str>,
    user: &'static str,
    wrong: Vec<(&'static str, Value, &'static str)>,
}

fn issuers() -> Vec<Issuer> {
    let (iat, exp) = (now() - 5, now() + 600);
    vec![
        Issuer {
            name: "Auth0",
            is_hs256: false,
            claims: json!({
                "iss": "https://example.eu.auth0.com/", "sub": "auth0|5f7c8ec7c33c6c004bbafe82",
                "aud": ["https://api.example.com", "https://example.eu.auth0.com/userinfo"],
                "iat": iat, "exp": exp, "azp": "my_client_id", "scope": "openid profile",
            }),
            settings: vec![
                "--jwt-issuer",
                "https://example.eu.auth0.com/",
                "--jwt-audience",
                "https://api.example.com",
            ],
            user: "auth0|5f7c8ec7c33c6c004bbafe82",
            wrong: vec![
                ("aud", json!("my_client_id"), "another audience (aud)"),
                ("iss", json!("https://example.eu.auth0.com"), "another issuer"),
            ],
        },
        Issuer {
            name: "Keycloak, whose lightweight tokens have no sub",
            is_hs256: false,
            claims: json!({
                "exp": exp, "iat": iat, "jti": "onrtac:1", "iss": "https://id.example.com/realms/app",
                "typ": "Bearer", "azp": "web", "sid": "f2c4", "scope": "email profile",
                "user": {"id": USER},
            }),
            settings: vec![
                "--jwt-user-claim",
                "user.id",
                "--jwt-audience",
                "web,mobile",
                "--jwt-audience-claim",
                "azp",
                "--jwt-required-claims",
                "typ=Bearer",
            ],
            user: USER,
            wrong: vec![
                ("user", json!({}), "no claim user.id"),
                ("typ", json!("Refresh"), "claim typ"),
                ("azp", json!("other"), "another audience (azp)"),
            ],
        },
        Issuer {
            name: "Cognito's access token",
            is_hs256: false,
            claims: json!({
                "sub": USER, "iss": "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_example",
                "client_id": "xxxxxxxxxxxxexample", "origin_jti": "a", "event_id": "b",
                "token_use": "access", "scope": "phone openid", "auth_time": iat, "exp": exp,
                "iat": iat, "jti": "c", "username": "ada",
            }),
            settings: vec![
                "--jwt-audience",
                "xxxxxxxxxxxxexample",
                "--jwt-audience-claim",
                "client_id",
                "--jwt-required-claims",
                "token_use=access",
            ],
            user: USER,
            wrong: vec![
                ("token_use", json!("id"), "claim token_use"),
                ("client_id", Value::Null, "no audience (client_id)"),
            ],
        },
        Issuer {
            name: "Clerk",
            is_hs256: false,
            claims: json!({
                "azp": "https://app.example.com", "exp": exp, "iat": iat,
                "iss": "https://clean-mayfly-62.clerk.accounts.dev", "nbf": iat,
                "sid": "sess_2GbDB4enNdCa5vS1zpC3Xzg9tK9", "sub": "user_2GIpXOEpVyJw51rkZn9Kmnc6Sxr",
            }),
            settings: vec![
                "--jwt-issuer",
                "https://clean-mayfly-62.clerk.accounts.dev",
                "--jwt-audience",
                "https://app.example.com",
                "--jwt-audience-claim",
                "azp",
            ],
            user: "user_2GIpXOEpVyJw51rkZn9Kmnc6Sxr",
            wrong: vec![
                ("nbf", json!(exp), "not valid yet"),
                ("azp", json!("https://evil.example"), "another audience (azp)"),
            ],
        },
        Issuer {
            name: "Supabase",
            is_hs256: true,
            claims: json!({
                "aud": "authenticated", "exp": exp, "iat": iat, "sub": USER.to_uppercase(),
                "iss": "https://example.supabase.co/auth/v1", "email": "a@example.com",
                "role": "authenticated", "aal": "aal1", "session_id": "d",
                "app_metadata": {"provider": "email"}, "user_metadata": {}, "is_anonymous": false,
            }),
            settings: vec![
                "--jwt-audience",
                "authenticated",
                "--jwt-required-claims",
                "role=authenticated,is_anonymous=false",
            ],
            user: USER,
            wrong: vec![
                ("is_anonymous", json!(true), "claim is_anonymous"),
                ("sub", Value::Null, "no claim sub"),
            ],
        },
        Issuer {
            name: "fastapi-users",
            is_hs256: true,
            claims: json!({"sub": USER, "aud": ["fastapi-users:auth"], "exp": exp}),
            settings: vec!["--jwt-audience", "fastapi-users:auth"],
            user: USER,
            wrong: vec![
                ("aud", json!("fastapi-users:reset"), "another audience (aud)"),
                ("exp", Value::Null, "no expiry (exp)"),
                ("exp", json!(iat - 60), "expired"),
            ],
        },
    ]
}

#[tokio::test]
async fn each_issuers_token_opens_a_stream_with_its_settings_and_a_401_says_what_is_missing() {
    let database = Database::new().await;
    let host = KeyHost::start().await;
    let [rsa, ..] = Signer::all();
    host.publish(&[rsa.jwk()]);
    let url = host.url();
    for issuer in issuers() {
        let name = issuer.name;
        let mut settings = vec!["--jwt-jwks-url", &url];
        settings.extend(&issuer.settings);
        let gateway = TestGateway::start(&database.url, &settings).await;
        let sign = |claims: &Value| {
            let (header, key) = if issuer.is_hs256 {
                (Header::default(), EncodingKey::from_secret(SECRET.as_bytes()))
            } else {
                (Header { kid: Some(rsa.id.into()), ..Header::new(rsa.algorithm) }, rsa.key.clone())
            };
            format!("Bearer {}", jsonwebtoken::encode(&header, claims, &key).unwrap())
        };
        let good = sign(&issuer.claims);
        let headers = [("authorization", good.as_str())];
        let mut stream = EventSource::open_with(gateway.address, STREAM_PATH, &headers).await;
        assert_eq!(stream.next().await.json()["user_id"], issuer.user, "{name}");
        if let Ok(user) = issuer.user.parse::<Uuid>() {
            database.insert(user, name).await;
            assert_eq!(stream.titles(1).await.0, [name]);
        }

        for (claim, value, says) in &issuer.wrong {
            let mut claims = issuer.claims.clone();
            claims[*claim] = value.clone();
            let bad = sign(&claims);
            let headers = [("authorization", bad.as_str())];
            let answer = request(gateway.address, "GET", STREAM_PATH, &headers).await;
            assert_eq!(answer.status, 401, "{name}: {claim}");
            let challenge = answer.header("www-authenticate").to_owned();
            assert!(challenge.contains(says), "{name}: {claim}: {challenge}");
            let text = answer.text().await;
            assert!(text.contains(says), "{name}: {claim}: {text}");
            if let Some(value) = value.as_str().filter(|value| value.len() > 6) {
                assert!(!text.contains(value) && !challenge.contains(value), "{name}: {text}");
            }
        }
    }
}

#[tokio::test]
async fn a_user_without_a_uuid_has_an_open_stream_that_no_query_fails_for() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &["--heartbeat", "200ms"]).await;
    let claims = json!({"sub": "auth0|abc", "exp": now() + 600});
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let token = jsonwebtoken::encode(&Header::default(), &claims, &key).unwrap();
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let mut stream = EventSource::open_with(gateway.address, STREAM_PATH, &headers).await;
    assert_eq!(stream.next().await.json()["user_id"], "auth0|abc");
    let id = stream.next().await.id.unwrap();
    // A cursor makes it ask for a page; a page that is answered ends its lag.
    let headers = [&headers[..], &[("last-event-id", id.as_str())]].concat();
    let _resumed = EventSource::open_with(gateway.address, STREAM_PATH, &headers).await;
    eventually("both are live", async || {
        gateway.metric("notify_gateway_lagging_streams").await < 0.5
    })
    .await;
    assert_eq!(gateway.readyz().await.0, 200);
}

#[tokio::test]
async fn a_cookie_is_not_looked_at_beside_a_token_and_the_first_good_one_of_several_counts() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &["--jwt-cookie", "session"]).await;
    let good = token(Uuid::new_v4());
    let bearer = format!("Bearer {good}");
    let junk = ("cookie", "session=junk");
    let stale = format!("session=junk; session=\"Bearer {good}\"");
    let encoded = format!("session=%22Bearer%20{good}%22");
    let query = format!("{STREAM_PATH}?access_token={good}");
    for (target, headers, status) in [
        (STREAM_PATH, vec![("authorization", bearer.as_str()), junk], 200),
        (&query, vec![junk], 200),
        (STREAM_PATH, vec![("authorization", "Basic eDp5"), ("cookie", &stale)], 200),
        (STREAM_PATH, vec![("cookie", &encoded)], 200),
        (STREAM_PATH, vec![junk], 401),
        (&query, vec![("authorization", "Bearer other")], 400),
    ] {
        let answer = request(gateway.address, "GET", target, &headers).await;
        assert_eq!(answer.status, status, "{headers:?}");
    }
}

#[tokio::test]
async fn a_revoked_cookie_does_not_hide_a_good_one_of_the_same_name() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &["--jwt-cookie", "session"]).await;
    let (locked_out, user) = (Uuid::new_v4(), Uuid::new_v4());
    let insert = "INSERT INTO notify_gateway.revocation (user_id, before) VALUES";
    database.psql(&format!("{insert} ('{locked_out}', 'infinity')")).await;
    let (revoked, good) = (token(locked_out), token(user));
    for (cookies, status) in [
        (format!("session={revoked}; session={good}"), 200),
        (format!("session={revoked}; session={revoked}"), 401),
    ] {
        let answer = request(gateway.address, "GET", STREAM_PATH, &[("cookie", &cookies)]).await;
        assert_eq!(answer.status, status);
    }
}

#[tokio::test]
async fn a_revoked_token_without_iat_is_told_what_it_lacks() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &[]).await;
    let user = Uuid::new_v4();
    let sign = |claims: &Value| {
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        format!("Bearer {}", jsonwebtoken::encode(&Header::default(), claims, &key).unwrap())
    };
    let without = sign(&json!({"sub": user, "exp": now() + 600}));
    let headers = [("authorization", without.as_str())];
    let mut stream = EventSource::open_with(gateway.address, STREAM_PATH, &headers).await;
    assert_eq!(stream.next().await.name, "connected");
    let revoke = format!("INSERT INTO notify_gateway.revocation (user_id) VALUES ('{user}')");
    database.client.batch_execute(&revoke).await.unwrap();
    let closing = stream.next().await;
    assert_eq!(closing.json()["reason"], "revoked");
    let answer = request(gateway.address, "GET", STREAM_PATH, &headers).await;
    assert_eq!(answer.status, 401);
    assert!(answer.header("www-authenticate").contains("(iat)"));
    let old = sign(&json!({"sub": user, "exp": now() + 600, "iat": now() - 60}));
    let headers = [("authorization", old.as_str())];
    let answer = request(gateway.address, "GET", STREAM_PATH, &headers).await;
    assert_eq!(answer.status, 401);
    assert!(answer.header("www-authenticate").contains("has been revoked"));
}

#[tokio::test]
async fn a_key_set_in_a_file_is_read_again_on_sighup_and_a_bad_one_is_refused() {
    let database = Database::new().await;
    let [rsa, p256, ..] = Signer::all();
    let file = tempfile::NamedTempFile::new().unwrap();
    let write = |keys: &[Value]| {
        std::fs::write(&file, json!({ "keys": keys }).to_string()).unwrap();
    };
    write(&[rsa.jwk()]);
    let path = file.path().to_str().unwrap();
    let process = Process::start(&database.url, &["--jwt-jwks-file", path]).await;
    let user = Uuid::new_v4();
    let status = async |signer: &Signer| {
        let bearer = format!("Bearer {}", signer.token(Some(signer.id), user));
        let headers = [("authorization", bearer.as_str())];
        request(process.address, "GET", STREAM_PATH, &headers).await.status
    };
    assert_eq!((status(&rsa).await, status(&p256).await), (200, 401));
    write(&[p256.jwk()]);
    process.signal(nix::sys::signal::Signal::SIGHUP);
    eventually("the new key counts", async || status(&p256).await == 200).await;
    assert_eq!(status(&rsa).await, 401);
    write(&[]);
    process.signal(nix::sys::signal::Signal::SIGHUP);
    eventually("it is refused", async || process.log().contains("not reloaded")).await;
    assert_eq!(status(&p256).await, 200);
    assert!(process.log().contains("JWT_AUDIENCE"), "a warning that no audience is set");
}

#[tokio::test]
async fn the_key_set_is_fetched_through_the_proxy_of_the_environment_unless_it_is_exempt() {
    let database = Database::new().await;
    let host = KeyHost::start().await;
    let [rsa, ..] = Signer::all();
    host.publish(&[rsa.jwk()]);
    let proxy = tunnel::Proxy::start(host.address).await;
    let url = "http://keys.example.test/jwks.json";
    let flags = ["--jwt-jwks-url", url];
    let address = format!("http://ada:secret@{}", proxy.address);
    let process =
        Process::start_with(&database.url, &flags, &[("ALL_PROXY", address.as_str())]).await;
    assert_eq!(proxy.asked(), ["CONNECT keys.example.test:80 Basic YWRhOnNlY3JldA=="]);
    let bearer = format!("Bearer {}", rsa.token(Some(rsa.id), Uuid::new_v4()));
    let headers = [("authorization", bearer.as_str())];
    assert_eq!(request(process.address, "GET", STREAM_PATH, &headers).await.status, 200);
    assert!(!process.log().contains("secret"), "{}", process.log());

    // With https the proxy passes on what it cannot read.
    let authority = Authority::new();
    let tls = authority.terminate("keys.example.test", host.address).await;
    let tunnel = tunnel::Proxy::start(tls).await;
    let tunnel_address = format!("http://{}", tunnel.address);
    let root = authority.root();
    let environment = [("HTTPS_PROXY", tunnel_address.as_str()), ("SSL_CERT_FILE", root.as_str())];
    let flags = ["--jwt-jwks-url", "https://keys.example.test/jwks.json"];
    let process = Process::start_with(&database.url, &flags, &environment).await;
    assert_eq!(tunnel.asked(), ["CONNECT keys.example.test:443 anonymous"]);
    assert_eq!(request(process.address, "GET", STREAM_PATH, &headers).await.status, 200);

    // The host of the set is on this machine: the proxy is not asked.
    let url = host.url();
    let flags = ["--jwt-jwks-url", url.as_str()];
    let before = host.requests();
    let _direct =
        Process::start_with(&database.url, &flags, &[("ALL_PROXY", address.as_str())]).await;
    assert_eq!((host.requests(), proxy.asked().len()), (before + 1, 1));
}

#[tokio::test]
async fn a_stream_ends_at_its_greatest_age_and_its_client_comes_back_jittered() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &["--max-stream-age", "300ms"]).await;
    let mut stream = gateway.connect(Uuid::new_v4()).await;
    let closing = stream.next().await;
    assert_eq!(
        (closing.name.as_str(), closing.json()["reason"].as_str()),
        ("closing", Some("max_age"))
    );
    assert!(closing.id.is_some() && closing.retry.is_some());
    assert_eq!(stream.next_or_end().await, None);
    let ended = "notify_gateway_stream_ends_total{reason=\"max_age\"}";
    eventually("it is counted", async || gateway.metric(ended).await > 0.5).await;
}

#[tokio::test]
async fn a_stream_is_never_silent_for_long_and_says_how_often_its_heartbeat_comes() {
    let database = Database::new().await;
    let flags = ["--heartbeat", "16s", "--no-transform"];
    let gateway = TestGateway::start(&database.url, &flags).await;
    let mut stream = EventSource::open(gateway.address, Uuid::new_v4()).await;
    assert_eq!(stream.response.header("cache-control"), "no-cache, no-transform");
    assert_eq!(stream.next().await.json()["heartbeat_seconds"], 16);
    // The first comes within eight seconds, the heartbeat eight seconds later.
    assert_eq!(stream.next().await.name, "heartbeat");
    assert_eq!(stream.comments(), 1);
}
