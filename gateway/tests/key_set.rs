//! Keys that their issuer publishes: whoever holds a good token comes in,
//! whatever becomes of the issuer's host.

use notify_gateway::http::STREAM_PATH;
use serde_json::json;
use uuid::Uuid;

use crate::support::{
    Database, KeyHost, Process, SECRET, Signer, TestGateway, eventually, request,
};

async fn status(gateway: &TestGateway, token: &str) -> u16 {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    request(gateway.address, "GET", STREAM_PATH, &headers).await.status
}

async fn start(database: &Database, host: &KeyHost) -> TestGateway {
    TestGateway::start_without_secret(&database.url, &["--jwt-jwks-url", &host.url()]).await
}

#[tokio::test]
async fn each_kind_of_published_key_opens_streams_and_what_is_no_such_key_does_not() {
    let database = Database::new().await;
    let host = KeyHost::start().await;
    let [rsa, p256, p384, ed] = Signer::all();
    let mut for_encryption = p384.jwk();
    for_encryption["use"] = json!("enc");
    let mut of_another_algorithm = rsa.jwk();
    of_another_algorithm["alg"] = json!("RS512");
    of_another_algorithm["kid"] = json!("only RS512");
    host.publish(&[
        rsa.jwk(),
        p256.jwk(),
        ed.jwk(),
        for_encryption,
        of_another_algorithm,
        json!({"kty": "oct", "kid": "known to all", "k": "c2VjcmV0IG9mIHRoZSB0ZXN0cw"}),
        json!({"kty": "RSA", "kid": "broken", "n": "!", "e": "!"}),
        json!({"kty": "lattice", "kid": "of tomorrow"}),
        json!(7),
    ]);
    let gateway = start(&database, &host).await;
    gateway.ready().await;
    let user = Uuid::new_v4();
    for signer in [&rsa, &p256, &ed] {
        assert_eq!(status(&gateway, &signer.token(Some(signer.id), user)).await, 200);
        assert_eq!(status(&gateway, &signer.token(None, user)).await, 200);
    }
    assert_eq!(status(&gateway, &p384.token(Some("p-384"), user)).await, 401);
    assert_eq!(status(&gateway, &rsa.token(Some("p-256"), user)).await, 401);
    assert_eq!(status(&gateway, &rsa.token(Some("only RS512"), user)).await, 401);
    let header = jsonwebtoken::Header {
        kid: Some("known to all".into()),
        ..jsonwebtoken::Header::default()
    };
    let claims = json!({"sub": user, "exp": jsonwebtoken::get_current_timestamp() + 600});
    let key = jsonwebtoken::EncodingKey::from_base64_secret("c2VjcmV0IG9mIHRoZSB0ZXN0cw==");
    let forged = jsonwebtoken::encode(&header, &claims, &key.unwrap()).unwrap();
    assert_eq!(status(&gateway, &forged).await, 401);
}

#[tokio::test]
async fn a_key_of_a_new_name_is_looked_for_once_and_made_up_names_wear_nobody_out() {
    let database = Database::new().await;
    let host = KeyHost::start().await;
    let [rsa, p256, ..] = Signer::all();
    host.publish(&[rsa.jwk()]);
    let gateway = start(&database, &host).await;
    gateway.ready().await;
    assert_eq!(host.requests(), 1);
    let user = Uuid::new_v4();

    // The issuer rotates; the first token of the new key finds it.
    host.publish(&[rsa.jwk(), p256.jwk()]);
    assert_eq!(status(&gateway, &p256.token(Some("p-256"), user)).await, 200);
    assert_eq!(status(&gateway, &rsa.token(Some("rsa"), user)).await, 200);
    assert_eq!(host.requests(), 2);

    for name in 0..50 {
        let made_up = p256.token(Some(&name.to_string()), user);
        assert_eq!(status(&gateway, &made_up).await, 401);
    }
    assert_eq!(host.requests(), 2);
}

#[tokio::test]
async fn until_there_is_a_key_a_token_waits_and_a_request_without_one_is_told() {
    let database = Database::new().await;
    let host = KeyHost::start().await;
    host.answer_with("503 Service Unavailable", "");
    let gateway = start(&database, &host).await;
    let [rsa, ..] = Signer::all();
    let token = rsa.token(Some("rsa"), Uuid::new_v4());
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("accept", "application/json")];
    let answer = request(gateway.address, "GET", STREAM_PATH, &headers).await;
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert!(answer.text().await.contains("no-keys"));
    // A browser's EventSource would take a status for good.
    let headers = [("authorization", bearer.as_str()), ("accept", "text/event-stream")];
    let answer = request(gateway.address, "GET", STREAM_PATH, &headers).await;
    assert_eq!(answer.status, 200);
    let said = answer.text().await;
    assert!(said.contains("event: closing") && said.contains("starting"), "{said}");
    assert!(said.contains("retry: "), "{said}");
    assert_eq!(request(gateway.address, "GET", STREAM_PATH, &[]).await.status, 401);
    let (ready, why) = gateway.readyz().await;
    assert_eq!(ready, 503);
    assert!(why.contains("key"), "{why}");

    host.publish(&[rsa.jwk()]);
    gateway.ready().await;
    assert_eq!(status(&gateway, &token).await, 200);
}

#[tokio::test]
async fn a_host_that_is_down_or_answers_nonsense_locks_nobody_out() {
    let database = Database::new().await;
    let mut host = KeyHost::start().await;
    let [rsa, p256, ..] = Signer::all();
    host.publish(&[rsa.jwk()]);
    // With a secret beside the set, both are good.
    let flags = ["--jwt-jwks-url", &host.url(), "--jwt-secret", SECRET];
    let process = Process::start(&database.url, &flags).await;
    let status = async |token: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str())];
        request(process.address, "GET", STREAM_PATH, &headers).await.status
    };
    let user = Uuid::new_v4();
    let known = rsa.token(Some("rsa"), user);
    eventually("the key is known", async || status(&known).await == 200).await;
    assert_eq!(status(&crate::support::token(user)).await, 200);

    let too_large = " ".repeat(300_000);
    for (code, body) in [
        ("500 Internal Server Error", ""),
        ("302 Found", ""),
        ("200 OK", ""),
        ("200 OK", "{}"),
        ("200 OK", r#"{"keys":[]}"#),
        ("200 OK", too_large.as_str()),
    ] {
        host.answer_with(code, body);
        let before = host.requests();
        process.signal(nix::sys::signal::Signal::SIGHUP);
        eventually("it is asked again", async || host.requests() > before).await;
        assert_eq!(status(&known).await, 200, "{code} {body:.20}");
    }
    host.down();
    process.signal(nix::sys::signal::Signal::SIGHUP);
    assert_eq!(status(&p256.token(Some("p-256"), user)).await, 401);
    assert_eq!(status(&known).await, 200);
    let ready = request(process.admin, "GET", "/readyz", &[]).await;
    assert_eq!(ready.status, 200);
    let why = ready.text().await;
    assert!(why.contains("the key set cannot be fetched"), "{why}");
}
