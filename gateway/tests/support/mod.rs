//! What the tests stand on: a database, a gateway, a client.

mod browser;
mod certificates;
mod command;
mod database;
mod discretion;
mod gateway;
mod json_schema;
pub(crate) mod guide;
mod key_host;
mod nats;
mod network;
mod pgbouncer;
mod nginx;
mod process;
mod proxy;
mod sse;
pub(crate) mod tunnel;

use std::{future::Future, net::SocketAddr, time::Duration};

pub(crate) use browser::{Browser, Page};
pub(crate) use certificates::Authority;
pub(crate) use command::command;
pub(crate) use database::{Database, connect, crash, default_schema, own_server};
pub(crate) use discretion::MESSAGE;
pub(crate) use gateway::{SECRET, TestGateway, config, token, token_for};
pub(crate) use guide::Guide;
pub(crate) use json_schema::OpenApi;
pub(crate) use key_host::{KeyHost, Signer};
pub(crate) use nats::Nats;
pub(crate) use network::Network;
pub(crate) use nginx::Nginx;
pub(crate) use pgbouncer::PgBouncer;
pub(crate) use process::Process;
pub(crate) use proxy::{Kind, Proxy};
pub(crate) use sse::{Event, EventSource, Http2, request};

/// Longer than anything here takes on a busy machine. It bounds a failure, not
/// a success.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The value of one line of `/metrics`.
pub(crate) async fn metric(admin: SocketAddr, name: &str) -> f64 {
    let text = request(admin, "GET", "/metrics", &[]).await.text().await;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no metric {name} in\n{text}")).parse().unwrap()
}

/// Waits for the thing itself, which nothing announces: asks until it is so.
pub(crate) async fn eventually<F, Fut>(what: &str, mut is_so: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let asking = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("never came: {what}"));
}
