//! A gateway on ports of its own.

use std::{net::SocketAddr, time::Duration};

use clap::Parser as _;
use notify_gateway::{
    auth::{self, AuthConfig},
    config::{Config, Settings},
    gateway::{Gateway, RunError},
    http::STREAM_PATH,
    notification::UserId,
    secret::SigningSecret,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{EventSource, discretion, eventually, request};

/// Signs the tests' tokens.
pub(crate) const SECRET: &str = "the secret of the tests, long enough for HS256";

pub(crate) struct TestGateway {
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    shutdown: CancellationToken,
    running: Option<JoinHandle<Result<(), RunError>>>,
}

impl TestGateway {
    /// A gateway on `database_url` that is ready.
    pub(crate) async fn start(database_url: &str, flags: &[&str]) -> Self {
        let gateway = Self::start_unready(database_url, flags).await;
        gateway.ready().await;
        gateway
    }

    /// A gateway that may not have reached its database yet.
    pub(crate) async fn start_unready(database_url: &str, flags: &[&str]) -> Self {
        Self::run(Gateway::bind(config(database_url, flags)).unwrap())
    }

    fn run(gateway: Gateway) -> Self {
        discretion::watch();
        let (address, admin) = (gateway.local_addr().unwrap(), gateway.admin_addr().unwrap());
        let shutdown = CancellationToken::new();
        let running = Some(tokio::spawn(gateway.run(shutdown.clone())));
        Self { address, admin, shutdown, running }
    }

    /// A gateway that knows the keys of the flags alone; it may not be ready.
    pub(crate) async fn start_without_secret(database_url: &str, flags: &[&str]) -> Self {
        let mut config = config(database_url, flags);
        config.auth.secret = None;
        Self::run(Gateway::bind(config).unwrap())
    }

    pub(crate) async fn ready(&self) {
        // With LISTEN as well: most tests are about what a notification brings.
        eventually("the gateway is well", async || self.readyz_strict().await.0 == 200).await;
    }

    /// A stream of `user` whose `connected` has arrived.
    pub(crate) async fn connect(&self, user: Uuid) -> EventSource {
        let mut stream = EventSource::open(self.address, user).await;
        assert_eq!(stream.next().await.name, "connected");
        stream
    }

    /// Likewise of a user whose id is any text, going on after the event `id` if
    /// there is one.
    pub(crate) async fn connect_as(&self, user: &str, id: Option<&str>) -> EventSource {
        let bearer = format!("Bearer {}", token_of(&user.parse().unwrap(), LIFETIME));
        let mut headers = vec![("authorization", bearer.as_str())];
        headers.extend(id.map(|id| ("last-event-id", id)));
        EventSource::open_with(self.address, STREAM_PATH, &headers).await
    }

    /// The id of `connected`: the cursor of a client that saw nothing else.
    pub(crate) async fn cursor(&self, user: Uuid) -> String {
        let mut stream = EventSource::open(self.address, user).await;
        stream.next().await.id.expect("an id on connected")
    }

    /// A stream of `user` that goes on after the event `id`, and its first event.
    pub(crate) async fn resume(&self, user: Uuid, id: &str) -> EventSource {
        let bearer = format!("Bearer {}", token(user));
        let headers = [("authorization", bearer.as_str()), ("last-event-id", id)];
        let mut stream = EventSource::open_with(self.address, STREAM_PATH, &headers).await;
        assert_eq!(stream.next().await.name, "connected");
        stream
    }

    /// The status and the body of `/readyz`.
    pub(crate) async fn readyz(&self) -> (u16, String) {
        self.ask("/readyz").await
    }

    /// The status and the body of `/readyz?strict`.
    pub(crate) async fn readyz_strict(&self) -> (u16, String) {
        self.ask("/readyz?strict").await
    }

    async fn ask(&self, path: &str) -> (u16, String) {
        let response = request(self.admin, "GET", path, &[]).await;
        (response.status, response.text().await)
    }

    /// The value of one line of `/metrics`.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        super::metric(self.admin, name).await
    }

    /// What SIGTERM does.
    pub(crate) fn stop(&self) {
        self.shutdown.cancel();
    }

    /// Waits for the end of [`Gateway::run`].
    pub(crate) async fn ended(mut self) -> Result<(), RunError> {
        self.running.take().unwrap().await.unwrap()
    }
}

impl Drop for TestGateway {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// The settings of a gateway of the tests.
pub(crate) fn config(database_url: &str, flags: &[&str]) -> Config {
    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        settings: Settings,
    }
    let own = [
        "gateway",
        "--database-url",
        database_url,
        "--jwt-secret",
        SECRET,
        "--bind",
        "127.0.0.1:0",
        "--admin-bind",
        "127.0.0.1:0",
    ];
    // One machine plays all clients; who tests the limits sets them.
    let limits = ["--connect-rate", "--user-connect-rate"];
    let unlimited = limits.into_iter().filter(|limit| !flags.contains(limit));
    let unlimited = unlimited.flat_map(|limit| [limit, "0"]).collect::<Vec<_>>();
    Command::try_parse_from(own.iter().chain(&unlimited).chain(flags))
        .unwrap()
        .settings
        .into_config()
        .unwrap()
}

/// A token of `user`, good for an hour.
pub(crate) fn token(user: Uuid) -> String {
    token_for(user, LIFETIME)
}

pub(crate) fn token_for(user: Uuid, lifetime: Duration) -> String {
    token_of(&user.into(), lifetime)
}

const LIFETIME: Duration = Duration::from_secs(3600);

fn token_of(user: &UserId, lifetime: Duration) -> String {
    let config = AuthConfig { secret: SigningSecret::parse(SECRET).ok(), ..AuthConfig::default() };
    auth::sign(&config, user, lifetime).unwrap()
}
