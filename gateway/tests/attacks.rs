//! Tokens that must not open a stream, a row each.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use notify_gateway::http::STREAM_PATH;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Database, SECRET, TestGateway, request};

const RSA_PUBLIC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/rsa.pub.pem");

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn hmac(secret: &[u8], claims: &Value) -> String {
    jsonwebtoken::encode(&Header::default(), claims, &EncodingKey::from_secret(secret)).unwrap()
}

/// A token with a head of the attacker's own and a signature that fits nothing.
fn unsigned(head: &Value, claims: &Value) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.", part(head), part(claims))
}

#[tokio::test]
async fn each_is_refused_with_its_status_and_its_challenge() {
    let database = Database::new().await;
    let flags = [
        "--jwt-public-key-file",
        RSA_PUBLIC,
        "--jwt-audience",
        "bell",
        "--jwt-issuer",
        "app",
        "--jwt-leeway",
        "0s",
    ];
    let gateway = TestGateway::start(&database.url, &flags).await;
    let user = Uuid::new_v4();
    let good = json!({"sub": user, "exp": now() + 600, "aud": "bell", "iss": "app"});
    let but = |name: &str, value: Value| {
        let mut claims = good.clone();
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value;
        }
        claims
    };
    let secret = SECRET.as_bytes();
    let bearer = |token: &str| format!("Bearer {token}");
    let public_pem = std::fs::read_to_string(RSA_PUBLIC).unwrap();

    // The good one is good, or the others prove nothing.
    let valid = bearer(&hmac(secret, &good));
    let answer = request(gateway.address, "GET", STREAM_PATH, &[("authorization", &valid)]).await;
    assert_eq!(answer.status, 200);

    let mut attacks: Vec<(String, String)> = Vec::new();
    for spelling in ["none", "None", "NONE", "nOnE", ""] {
        let token = unsigned(&json!({"alg": spelling, "typ": "JWT"}), &good);
        attacks.push((format!("alg {spelling:?}"), token));
    }
    let signed = hmac(secret, &good);
    let (message, signature) = signed.rsplit_once('.').unwrap();
    let (head, _) = message.split_once('.').unwrap();
    for (name, token) in [
        ("the RSA public key as an HMAC secret", hmac(public_pem.as_bytes(), &good)),
        ("another secret", hmac(b"another secret, as long as you like", &good)),
        ("expired", hmac(secret, &but("exp", json!(now() - 10)))),
        ("not yet valid", hmac(secret, &but("nbf", json!(now() + 600)))),
        ("no exp", hmac(secret, &but("exp", Value::Null))),
        ("exp as a text", hmac(secret, &but("exp", json!("2099-01-01")))),
        ("no aud", hmac(secret, &but("aud", Value::Null))),
        ("another aud", hmac(secret, &but("aud", json!("other")))),
        ("no iss", hmac(secret, &but("iss", Value::Null))),
        ("another iss", hmac(secret, &but("iss", json!("other")))),
        ("no sub", hmac(secret, &but("sub", Value::Null))),
        ("a sub that is a list", hmac(secret, &but("sub", json!([user])))),
        ("a sub that is endless", hmac(secret, &but("sub", json!("x".repeat(256))))),
        ("no signature", format!("{message}.")),
        ("another body", format!("{head}.{}.{signature}", "e30")),
        ("two parts", message.to_owned()),
        ("four parts", format!("{signed}.x")),
    ] {
        attacks.push((name.to_owned(), token));
    }
    // Heads that bring their own key, or say where to fetch one.
    for (name, value) in [
        ("jku", json!("http://127.0.0.1:1/keys")),
        ("x5u", json!("http://127.0.0.1:1/cert")),
        ("kid", json!("../../../dev/null")),
        ("jwk", json!({"kty": "oct", "k": "c2VjcmV0"})),
    ] {
        let mut head = json!({"alg": "HS256", "typ": "JWT"});
        head[name] = value;
        attacks.push((format!("{name} in the head"), unsigned(&head, &good) + "c2ln"));
    }
    let other_key = Header { alg: Algorithm::HS256, kid: Some("x".into()), ..Header::default() };
    let own = EncodingKey::from_secret(b"secret");
    attacks.push((
        "a key of one's own".into(),
        jsonwebtoken::encode(&other_key, &good, &own).unwrap(),
    ));

    for (name, token) in &attacks {
        let headers = [("authorization", bearer(token))];
        let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let answer = request(gateway.address, "GET", STREAM_PATH, &headers).await;
        assert_eq!(answer.status, 401, "{name}");
        let challenge = answer.header("www-authenticate").to_owned();
        assert!(challenge.starts_with("Bearer realm="), "{name}: {challenge}");
        assert!(challenge.contains("error=\"invalid_token\""), "{name}: {challenge}");
        let body = answer.text().await;
        assert!(!body.contains(token.as_str()), "{name}: the token is in the answer");
    }

    let second = bearer(&hmac(secret, &but("iat", json!(now()))));
    for (name, target, headers, status) in [
        (
            "two Authorization headers",
            STREAM_PATH.to_owned(),
            vec![("authorization", valid.as_str()), ("authorization", second.as_str())],
            400,
        ),
        (
            "different tokens in two places",
            format!("{STREAM_PATH}?access_token={}", hmac(secret, &but("iat", json!(1)))),
            vec![("authorization", valid.as_str())],
            400,
        ),
        ("no token", STREAM_PATH.to_owned(), vec![("authorization", "Basic eDp5")], 401),
    ] {
        let answer = request(gateway.address, "GET", &target, &headers).await;
        assert_eq!(answer.status, status, "{name}");
    }
    let oversized = bearer(&"x".repeat(20_000));
    let answer =
        request(gateway.address, "GET", STREAM_PATH, &[("authorization", &oversized)]).await;
    assert_eq!(answer.status, 431);
}
