//! The service manager: the sockets that it gives, and what it is told
//! ([sd_listen_fds(3)](https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html),
//! [sd_notify(3)](https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html)).
//! Without one, nothing of this does anything.

use std::{convert::Infallible, env, io, net::TcpListener, sync::Arc, time::Duration};

use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};

use crate::health::Health;

/// Time between two looks at how the gateway is, if the watchdog does not want to hear of it more
/// often.
const INTERVAL: Duration = Duration::from_secs(5);

/// Without this a service manager ends a service after `TimeoutStartSec` that is still waiting for
/// its database.
const MORE_TIME: Duration = Duration::from_secs(30);

/// What a stop takes beyond the drain.
const STOP_RESERVE: Duration = Duration::from_secs(10);

/// Sockets that listen already.
#[derive(Debug, Default)]
pub struct Sockets {
    /// For streams.
    pub public: Option<TcpListener>,
    /// For the operator.
    pub admin: Option<TcpListener>,
}

impl Sockets {
    /// Those of a socket unit: its first `ListenStream=` is the public port, its second the admin
    /// port.
    ///
    /// # Errors
    ///
    /// One that is no TCP socket, or does not listen.
    pub fn of_the_service_manager() -> io::Result<Self> {
        let mut given = ListenFd::from_env();
        let admin = if given.len() > 1 { given.take_tcp_listener(1)? } else { None };
        let public = if given.len() > 0 { given.take_tcp_listener(0)? } else { None };
        Ok(Self { public, admin })
    }
}

/// Tells the service manager when the gateway is ready, how it is, and that it lives: as often as
/// `WatchdogSec=` asks for, and not while its tasks are stuck ([`Health::stuck`]).
pub async fn report(health: Arc<Health>) -> Infallible {
    if env::var_os("NOTIFY_SOCKET").is_none() {
        return std::future::pending().await;
    }
    // Half of it, as systemd's manual advises.
    let watchdog = sd_notify::watchdog_enabled().map(|longest| longest / 2);
    let mut interval = interval(watchdog.unwrap_or(INTERVAL).min(INTERVAL));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_ready = false;
    let mut said = String::new();
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            () = health.ready(), if !is_ready => {}
        }
        let status = status(&health);
        let mut states = Vec::new();
        if status != said {
            states.push(NotifyState::Status(&status));
        }
        if !is_ready {
            is_ready = health.has_been_ready();
            states.push(if is_ready { NotifyState::Ready } else { extension(MORE_TIME) });
        }
        if health.stuck().is_none() {
            states.push(NotifyState::Watchdog);
        }
        tell(&states);
        said = status;
    }
}

/// Tells the service manager that the gateway stops, and how long that takes at the most.
pub fn stopping(drain: Duration) {
    tell(&[NotifyState::Stopping, extension(drain + STOP_RESERVE)]);
}

fn status(health: &Health) -> String {
    let reasons = health.readiness().reasons;
    let text = if reasons.is_empty() { "well".to_owned() } else { reasons.join("; ") };
    // A line each; what Postgres says may have several.
    text.replace('\n', " ")
}

fn extension<'a>(time: Duration) -> NotifyState<'a> {
    NotifyState::ExtendTimeoutUsec(u32::try_from(time.as_micros()).unwrap_or(u32::MAX))
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager is not told");
    }
}
