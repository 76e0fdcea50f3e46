//! Behind a real nginx, with the lines that the README gives.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use notify_gateway::http::STREAM_PATH;
use serde_json::json;
use uuid::Uuid;

use crate::support::{
    Browser, Database, EventSource, Nginx, Page, Process, eventually, request, token,
};

/// How long the gateway is away: longer than a restart takes.
const AWAY: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_page_with_a_native_event_source_outlives_a_gateway_that_is_away_for_five_seconds() {
    let database = Database::new().await;
    let mut process = Process::start(&database.url, &[]).await;
    let user = Uuid::new_v4();
    let script = format!(
        "const source = new EventSource('{STREAM_PATH}?access_token={}');
         source.addEventListener('connected', () => report('connected'));
         source.addEventListener('notification', (event) =>
           report({{ title: JSON.parse(event.data).title }}));
         source.onerror = () => {{ if (source.readyState === 2) report('closed for good'); }};",
        token(user),
    );
    let mut page = Page::serve(&script, None).await;
    let Some(nginx) = Nginx::start(process.address, page.address()).await else { return };
    let url = format!("http://localhost:{}/", nginx.address.port());
    let Some(_browser) = Browser::open_at(&url) else { return };
    assert_eq!(page.reported().await, json!("connected"));
    database.insert(user, "before").await;
    assert_eq!(page.reported().await, json!({"title": "before"}));

    process.signal(Signal::SIGKILL);
    process.ended().await;
    let killed = Instant::now();
    database.insert(user, "meanwhile").await;
    eventually("the browser has been told to come back, twice and for long enough", async || {
        nginx.stood_in() >= 2 && killed.elapsed() >= AWAY
    })
    .await;
    let address = process.address.to_string();
    let _restarted = Process::start(&database.url, &["--bind", &address]).await;
    // Not a reload: without a cursor the row would be too old to come.
    assert_eq!(page.reported().await, json!("connected"));
    assert_eq!(page.reported().await, json!({"title": "meanwhile"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_gateway_refuses_passes_through_as_it_is() {
    let database = Database::new().await;
    let process = Process::start(&database.url, &["--max-streams", "1"]).await;
    let page = Page::serve("", None).await;
    let Some(nginx) = Nginx::start(process.address, page.address()).await else { return };
    let _stream = EventSource::open(nginx.address, Uuid::new_v4()).await;
    let bearer = format!("Bearer {}", token(Uuid::new_v4()));
    let full =
        request(nginx.address, "GET", STREAM_PATH, &[("authorization", bearer.as_str())]).await;
    assert_eq!(full.status, 503);
    assert_eq!(full.header("content-type"), "application/problem+json");
    assert!(full.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert_eq!(request(nginx.address, "GET", STREAM_PATH, &[]).await.status, 401);
    assert_eq!(nginx.stood_in(), 0);
}
