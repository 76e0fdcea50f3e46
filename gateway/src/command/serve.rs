//! `notify-gateway serve`.

use anyhow::Context as _;
use notify_gateway::{
    config::{Config, ConfigError, Settings, warnings},
    gateway::{Gateway, Reloader, RunError},
    limits,
    systemd::{self, Sockets},
    telemetry,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::Failure;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    settings: Settings,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let settings = arguments.settings;
    // Before there are other threads: what is given is taken out of the environment.
    let sockets =
        Sockets::of_the_service_manager().context("the sockets of the service manager")?;
    runtime(settings.threads)?.block_on(async {
        let telemetry = telemetry::init(settings.log_format).map_err(Failure::Usage)?;
        let config = settings.clone().into_config()?;
        // Before anything that takes time: stopped while it starts, it ends well too.
        let shutdown = shutdown_on_signal()?;
        match limits::raise_open_files() {
            Ok(files) => tracing::debug!(open_files = files, "the limit on open files"),
            Err(error) => tracing::warn!(%error, "cannot raise the limit on open files"),
        }
        for warning in warnings(&config.auth) {
            tracing::warn!("{warning}");
        }
        warn_of_what_is_left_out(&config);
        let (setting, drain) = (settings.listen_setting(), config.drain);
        let gateway = Gateway::bind_or_take(config, sockets).map_err(anyhow::Error::from)?;
        let address = gateway.local_addr().context("the public port")?;
        let admin = gateway.admin_addr().context("the admin port")?;
        let (max_streams, max_connections) = (gateway.max_streams(), gateway.max_connections());
        tracing::info!(
            %address,
            %admin,
            max_streams,
            max_connections,
            version = env!("CARGO_PKG_VERSION"),
            "started"
        );
        reload_on_signal(settings, gateway.reloader())?;
        let reporting = tokio::spawn(systemd::report(gateway.health()));
        let stopping = shutdown.clone();
        tokio::spawn(async move {
            stopping.cancelled().await;
            systemd::stopping(drain);
            reporting.abort();
        });
        let outcome = gateway.run(shutdown).await;
        telemetry.end().await;
        match outcome {
            Err(error @ RunError::Listen(_)) => Err(error).context(setting)?,
            outcome => outcome.map_err(anyhow::Error::from)?,
        }
        Ok(())
    })
}

fn warn_of_what_is_left_out(config: &Config) {
    let mut names = config.database.left_out.clone();
    names.extend(config.listen_database.left_out.iter().cloned());
    names.sort();
    names.dedup();
    if !names.is_empty() {
        tracing::warn!(
            parameters = names.join(", "),
            "the database URL has parameters that mean nothing here; they are left out"
        );
    }
}

/// Reads the files that the settings name again at every SIGHUP. Each that is
/// wrong is refused with a line in the log, and what it held before stays.
fn reload_on_signal(settings: Settings, reloader: Reloader) -> Result<(), Failure> {
    let mut hangup = signal(SignalKind::hangup()).context("SIGHUP")?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            tracing::info!("SIGHUP: reading keys and certificates again");
            let (settings, reloader) = (settings.clone(), reloader.clone());
            // A file may be on a disk that takes its time.
            let _done = tokio::task::spawn_blocking(move || reload(&settings, &reloader)).await;
        }
    });
    Ok(())
}

fn reload(settings: &Settings, reloader: &Reloader) {
    reloader.key_set();
    match settings.auth.config() {
        Ok(config) => reloader.keys(&config),
        Err(error) => refused(&error),
    }
    match settings.identity() {
        Ok(identity) => identity.iter().for_each(|new| reloader.certificate(new)),
        Err(error) => refused(&error),
    }
    match settings.databases() {
        Ok((database, listen)) => reloader.databases(database, listen),
        Err(error) => refused(&error),
    }
}

fn refused(error: &ConfigError) {
    tracing::error!(%error, "not reloaded; what was there before stays");
}

pub(super) fn runtime(threads: u16) -> Result<tokio::runtime::Runtime, Failure> {
    // One thread needs no queues that others may steal from.
    let mut builder = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.worker_threads(threads.into()).enable_all().build();
    Ok(runtime.context("cannot start the runtime")?)
}

/// A token that SIGTERM or SIGINT cancels; a second one of them ends the
/// process at once.
pub(super) fn shutdown_on_signal() -> Result<CancellationToken, Failure> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let token = CancellationToken::new();
    let shutdown = token.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if shutdown.is_cancelled() {
                std::process::exit(1);
            }
            shutdown.cancel();
        }
    });
    Ok(token)
}
