//! Pages of other origins: those that are named, and no others.

use notify_gateway::http::STREAM_PATH;
use uuid::Uuid;

use crate::support::{Database, EventSource, TestGateway, request, token};

const APP: &str = "https://app.example";
const EVIL: &str = "https://evil.example";

async fn gateway(database: &Database) -> TestGateway {
    let origins = format!("{APP},http://localhost:5173");
    TestGateway::start(&database.url, &["--cors-origins", &origins, "--jwt-cookie", "session"])
        .await
}

#[tokio::test]
async fn a_preflight_is_answered_before_authentication() {
    let database = Database::new().await;
    let gateway = gateway(&database).await;
    let asks = [
        ("access-control-request-method", "GET"),
        ("access-control-request-headers", "authorization,last-event-id,cache-control"),
    ];
    let allowed = [&[("origin", APP)][..], &asks].concat();
    let answer = request(gateway.address, "OPTIONS", STREAM_PATH, &allowed).await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), APP);
    assert_eq!(answer.header("access-control-allow-credentials"), "true");
    assert_eq!(answer.header("access-control-allow-methods"), "GET");
    for name in ["authorization", "last-event-id", "cache-control"] {
        assert!(answer.header("access-control-allow-headers").contains(name));
    }
    assert_eq!(answer.header("vary"), "origin");

    let tracer = ("access-control-request-headers", "authorization,traceparent,baggage");
    let traced = [("origin", APP), asks[0], tracer];
    let answer = request(gateway.address, "OPTIONS", STREAM_PATH, &traced).await;
    assert_eq!(answer.header("access-control-allow-headers"), tracer.1);

    let foreign = [&[("origin", EVIL)][..], &asks].concat();
    let answer = request(gateway.address, "OPTIONS", STREAM_PATH, &foreign).await;
    assert_eq!(answer.header("access-control-allow-origin"), "");
}

async fn reads(
    gateway: &TestGateway,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    status: u16,
) {
    for (origin, allowed) in [(APP, APP), (EVIL, "")] {
        // As browsers send it: before the cookies.
        let headers = [&[("origin", origin)], headers].concat();
        let answer = request(gateway.address, method, target, &headers).await;
        assert_eq!(answer.status, status, "{method} {target}");
        assert_eq!(answer.header("access-control-allow-origin"), allowed, "{status}");
        assert_eq!(answer.header("vary"), "origin");
    }
}

#[tokio::test]
async fn every_answer_can_be_read_by_an_allowed_page_errors_included() {
    let database = Database::new().await;
    let gateway = gateway(&database).await;
    let bearer = format!("Bearer {}", token(Uuid::new_v4()));
    let query = format!("{STREAM_PATH}?access_token=%");
    let auth = vec![("authorization", bearer.as_str())];
    for (method, target, headers, status) in [
        ("GET", STREAM_PATH, auth.clone(), 200),
        ("GET", STREAM_PATH, vec![], 401),
        ("GET", &query, auth.clone(), 400),
        ("GET", "/nowhere", vec![], 404),
        ("POST", STREAM_PATH, vec![], 405),
        ("GET", STREAM_PATH, vec![("content-length", "-1")], 400),
        ("GET", STREAM_PATH, vec![("cookie", &"x".repeat(20_000))], 431),
    ] {
        reads(&gateway, method, target, &headers, status).await;
    }
    drop(gateway);
    let flags = ["--cors-origins", APP, "--enable-sse-notifications", "false"];
    let off = TestGateway::start(&database.url, &flags).await;
    reads(&off, "GET", STREAM_PATH, &auth, 204).await;
    let nowhere = "postgres://u:p@127.0.0.1:1/d";
    let unready = TestGateway::start_unready(nowhere, &flags[..2]).await;
    reads(&unready, "GET", STREAM_PATH, &auth, 503).await;
}

#[tokio::test]
async fn a_cookie_is_believed_from_the_pages_own_origin_or_an_allowed_one() {
    let database = Database::new().await;
    let gateway = gateway(&database).await;
    let cookie = format!("session={}", token(Uuid::new_v4()));
    let cookie = ("cookie", cookie.as_str());
    for (headers, status) in [
        (vec![cookie], 200),
        (vec![cookie, ("origin", APP)], 200),
        (vec![cookie, ("origin", "http://gateway.test")], 200),
        // Behind a proxy on this machine, which is trusted, the page's host is
        // the one the proxy was asked for.
        (
            vec![cookie, ("origin", "https://shop.example"), ("x-forwarded-host", "shop.example")],
            200,
        ),
        (
            vec![
                cookie,
                ("origin", "https://shop.example"),
                ("forwarded", "for=192.0.2.1;host=a.example, for=192.0.2.1;host=\"shop.example\""),
            ],
            200,
        ),
        (vec![cookie, ("origin", "https://shop.example"), ("forwarded", "host=a.example")], 403),
        (vec![cookie, ("origin", EVIL)], 403),
        (vec![cookie, ("origin", "null")], 403),
    ] {
        let answer = request(gateway.address, "GET", STREAM_PATH, &headers).await;
        assert_eq!(answer.status, status, "{headers:?}");
    }
}

#[tokio::test]
async fn without_the_setting_no_other_origin_is_told_anything() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &[]).await;
    let bearer = format!("Bearer {}", token(Uuid::new_v4()));
    let headers = [("authorization", bearer.as_str()), ("origin", APP)];
    let stream = EventSource::open_with(gateway.address, STREAM_PATH, &headers).await;
    assert_eq!(stream.response.header("access-control-allow-origin"), "");
    assert_eq!(stream.response.header("vary"), "");
}
