//! The NATS server of a run with a relay: started, killed, frozen.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use nix::sys::signal::Signal;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
    time::{sleep, timeout},
};

use crate::{cleanup::Cleanup, cluster::signal, port};

/// Where it may be: built by scripts/ensure-nats, or Debian's.
const PLACES: [&str; 3] =
    ["target/tools/bin/nats-server", "/usr/sbin/nats-server", "/usr/local/bin/nats-server"];

/// Keeps its port over restarts, and nothing else: what it had is in memory.
pub(crate) struct Nats {
    binary: PathBuf,
    port: u16,
    store: PathBuf,
    cleanup: Arc<Cleanup>,
    process: Option<Child>,
}

impl Nats {
    /// A server that answers.
    pub(crate) async fn start(directory: &Path, cleanup: Arc<Cleanup>) -> anyhow::Result<Self> {
        let binary = PLACES.iter().map(PathBuf::from).find(|path| path.exists());
        let binary = binary.context("no nats-server: scripts/ensure-nats installs one")?;
        let store = directory.join("nats");
        let mut nats = Self { binary, port: port::free()?, store, cleanup, process: None };
        nats.resume().await?;
        Ok(nats)
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// kill -9.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        let Some(mut child) = self.process.take() else { return Ok(()) };
        let pid = child.id().unwrap_or_default();
        child.kill().await?;
        self.cleanup.done(pid);
        Ok(())
    }

    /// Starts it, and waits until it answers.
    pub(crate) async fn resume(&mut self) -> anyhow::Result<()> {
        let mut command = Command::new(&self.binary);
        command.args(["-js", "-a", "127.0.0.1", "-p", &self.port.to_string(), "-sd"]);
        command.arg(&self.store).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.process_group(0).kill_on_drop(true).spawn()?;
        self.cleanup.add(child.id().unwrap_or_default());
        self.process = Some(child);
        let answering = async {
            while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(20), answering).await.context("NATS does not start")
    }

    /// Sends a signal to the process, if there is one.
    pub(crate) fn send(&self, what: Signal) {
        if let Some(pid) = self.process.as_ref().and_then(Child::id) {
            signal(pid, what);
        }
    }
}
