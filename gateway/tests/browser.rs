//! What a browser does by itself with what it is answered: a real Chromium.

use serde_json::json;
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::support::{Browser, Database, Page, TestGateway, token};

#[tokio::test]
async fn after_a_soft_refusal_the_browser_comes_back_by_itself() {
    let database = Database::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://localhost:{}", listener.local_addr().unwrap().port());
    let flags =
        ["--max-streams-per-user", "1", "--retry", "200ms", "--cors-origins", origin.as_str()];
    let gateway = TestGateway::start(&database.url, &flags).await;
    let user = Uuid::new_v4();
    let first = gateway.connect(user).await;
    let script = format!(
        "const source = new EventSource('http://{}{}?access_token={}');
         let refusals = 0;
         source.addEventListener('closing', (event) => {{
           if (++refusals === 2) report({{ refused: JSON.parse(event.data).reason }});
         }});
         source.addEventListener('connected', () => report({{ connected: refusals }}));
         source.addEventListener('notification', (event) =>
           report({{ title: JSON.parse(event.data).title }}));",
        gateway.address,
        notify_gateway::http::STREAM_PATH,
        token(user),
    );
    let mut page = Page::on(listener, &script, None);
    let Some(_browser) = Browser::open(&page) else { return };
    // Twice: it has come back once already.
    assert_eq!(page.reported().await, json!({"refused": "too_many_streams"}));
    drop(first);
    let connected = page.reported().await;
    assert!(connected["connected"].as_u64().unwrap() >= 2, "{connected}");
    database.insert(user, "at last").await;
    assert_eq!(page.reported().await, json!({"title": "at last"}));
}

#[tokio::test]
async fn a_401_ends_it_for_good() {
    let database = Database::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://localhost:{}", listener.local_addr().unwrap().port());
    let flags = ["--retry", "10ms", "--cors-origins", origin.as_str()];
    let gateway = TestGateway::start(&database.url, &flags).await;
    let script = format!(
        "const source = new EventSource('http://{}{}?access_token=expired');
         let errors = 0;
         source.onerror = () => {{
           if (++errors === 1) setTimeout(() => report([errors, source.readyState]), 1500);
         }};
         source.onopen = () => report('open');",
        gateway.address,
        notify_gateway::http::STREAM_PATH,
    );
    let mut page = Page::on(listener, &script, None);
    let Some(_browser) = Browser::open(&page) else { return };
    // One error, and CLOSED.
    assert_eq!(page.reported().await, json!([1, 2]));
    let asked = gateway.metric("notify_gateway_refused_total{reason=\"unauthorized\"}").await;
    assert!((asked - 1.0).abs() < 0.1, "{asked}");
}

/// Each way to ask from another origin, and what the page gets.
const ATTEMPTS: &str = "
  const opened = (url, options) => new Promise((done) => {
    const source = new EventSource(url, options);
    source.addEventListener('connected', () => { source.close(); done('connected'); });
    source.onerror = () => { source.close(); done('error'); };
  });
  const fetched = async (url, options) => {
    const stop = new AbortController();
    try {
      const response = await fetch(url, { ...options, signal: stop.signal });
      if (!response.ok) return response.status;
      const chunk = await response.body.getReader().read();
      return new TextDecoder().decode(chunk.value).includes('connected') ? 'connected' : 'what?';
    } catch (error) {
      return error.name;
    } finally {
      stop.abort();
    }
  };
  (async () => report({
    query: await opened(`${STREAM}?access_token=${TOKEN}`),
    cookie: await opened(STREAM, { withCredentials: true }),
    cookie_not_sent: await opened(STREAM),
    header: await fetched(STREAM, { headers: {
      'Authorization': `Bearer ${TOKEN}`, 'Last-Event-ID': 'x', 'Cache-Control': 'no-cache' } }),
    cookie_by_fetch: await fetched(STREAM, { credentials: 'include' }),
    no_token_by_fetch: await fetched(STREAM, { credentials: 'omit' }),
  }))();";

#[tokio::test]
async fn another_origin_gets_what_the_settings_say_with_and_without_credentials() {
    let database = Database::new().await;
    let allowed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://localhost:{}", allowed.local_addr().unwrap().port());
    let flags = ["--jwt-cookie", "session", "--cors-origins", origin.as_str()];
    let gateway = TestGateway::start(&database.url, &flags).await;
    let token = token(Uuid::new_v4());
    // Another port is another origin, and the same site: the cookie goes there.
    let script = format!(
        "const STREAM = 'http://localhost:{}{}', TOKEN = '{token}';{ATTEMPTS}",
        gateway.address.port(),
        notify_gateway::http::STREAM_PATH,
    );
    let cookie = format!("session={token}; Path=/; HttpOnly");
    let mut good = Page::on(allowed, &script, Some(&cookie));
    let Some(browser) = Browser::open(&good) else { return };
    assert_eq!(
        good.reported().await,
        json!({
            "query": "connected",
            "cookie": "connected",
            "cookie_not_sent": "error",
            "header": "connected",
            "cookie_by_fetch": "connected",
            "no_token_by_fetch": 401,
        })
    );
    drop(browser);

    let mut foreign = Page::serve(&script, Some(&cookie)).await;
    let Some(_browser) = Browser::open(&foreign) else { return };
    assert_eq!(
        foreign.reported().await,
        json!({
            "query": "error",
            "cookie": "error",
            "cookie_not_sent": "error",
            "header": "TypeError",
            "cookie_by_fetch": "TypeError",
            "no_token_by_fetch": "TypeError",
        })
    );
    let forbidden = gateway.metric("notify_gateway_refused_total{reason=\"forbidden\"}").await;
    assert!((forbidden - 2.0).abs() < 0.1, "{forbidden}");
}
