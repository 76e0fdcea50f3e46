//! One gateway process: the real binary, started, killed, stopped, frozen.

use std::{
    fs::{self, File},
    io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};
use uuid::Uuid;

use crate::{
    cleanup::Cleanup,
    cluster::{GATEWAY_ROLE, signal},
    port,
};

/// Signs the clients' tokens.
pub(crate) const SECRET: &str = "the secret of the fault test, long enough for HS256";

/// How often streams show that they live: short, so that a run of a minute has
/// seen dead paths found.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(2);

/// How many rows a reconnect may have missed before it is told to `resync`.
/// [`crate::verdict`] holds the gateway to it.
pub(crate) const REPLAY_LIMIT: usize = 1000;

/// How long the log is kept: past that a cursor is told to `resync` as well.
pub(crate) const RETENTION: Duration = Duration::from_secs(60);

/// Settings by environment: one that the binary does not know yet is ignored,
/// and a flag of the command line goes before it.
const SETTINGS: &[(&str, &str)] = &[
    ("GATEWAY_HEARTBEAT", "2s"),
    ("GATEWAY_RETRY", "200ms"),
    ("GATEWAY_DRAIN", "1s"),
    ("GATEWAY_SWEEP_INTERVAL", "500ms"),
    // Small: streams are to fall behind and catch up.
    ("GATEWAY_STREAM_BUFFER", "64"),
    ("GATEWAY_REPLAY_LIMIT", "1000"),
    // The log is pruned all the time, and quiet comes and goes.
    ("GATEWAY_RETENTION", "60s"),
    ("GATEWAY_QUIET_ABOVE", "40"),
    // Everyone comes from one address, and reconnects all the time.
    ("GATEWAY_CONNECT_RATE", "0"),
    ("GATEWAY_USER_CONNECT_RATE", "0"),
    ("JWT_SECRET", SECRET),
];

/// The binary and what it is started with.
#[derive(Clone)]
pub(crate) struct Binary {
    path: PathBuf,
    flags: Vec<String>,
}

impl Binary {
    /// `flags` are further flags of `serve`.
    pub(crate) fn new(path: PathBuf, flags: Vec<String>) -> Self {
        Self { path, flags }
    }

    /// The schema it carries.
    pub(crate) async fn schema(&self) -> anyhow::Result<String> {
        self.output(&["schema"]).await
    }

    /// A token of `user` that outlasts the run.
    pub(crate) async fn token(&self, user: Uuid) -> anyhow::Result<String> {
        let user = user.to_string();
        let token = self.output(&["token", "--user", &user, "--lifetime", "7days"]).await?;
        Ok(token.trim().to_owned())
    }

    async fn output(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.command().args(arguments).output().await;
        let output = output.with_context(|| format!("cannot run {}", self.path.display()))?;
        if !output.status.success() {
            bail!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.env_clear().envs(SETTINGS.iter().copied()).env("RUST_BACKTRACE", "0");
        if let Some(level) = std::env::var_os("RUST_LOG") {
            command.env("RUST_LOG", level);
        }
        command.process_group(0).kill_on_drop(true);
        command
    }
}

/// A gateway on ports that stay its own over restarts.
pub(crate) struct Gateway {
    name: String,
    binary: Binary,
    database_url: String,
    /// Where it reaches NATS, and its role there.
    relay: Option<(u16, &'static str)>,
    port: u16,
    admin_port: u16,
    log: PathBuf,
    cleanup: Arc<Cleanup>,
    process: Option<Child>,
}

impl Gateway {
    /// A gateway that reaches its database at 127.0.0.1:`database_port`, and NATS at the port
    /// of `relay`, if there is one. It is not started.
    pub(crate) fn new(
        name: &str,
        binary: Binary,
        (database_port, password): (u16, &str),
        relay: Option<(u16, &'static str)>,
        directory: &Path,
        cleanup: Arc<Cleanup>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            binary,
            database_url: format!(
                "postgres://{GATEWAY_ROLE}:{password}@127.0.0.1:{database_port}/postgres"
            ),
            relay,
            port: port::free()?,
            admin_port: port::free()?,
            log: directory.join(format!("gateway-{name}.log")),
            cleanup,
            process: None,
        })
    }

    /// The public port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The name it has in the report.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Starts the process; does not wait for it to be ready.
    pub(crate) fn start(&mut self) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = self.binary.command();
        command.arg("serve").env("DATABASE_URL", &self.database_url);
        command.env("GATEWAY_BIND", format!("127.0.0.1:{}", self.port));
        command.env("GATEWAY_ADMIN_BIND", format!("127.0.0.1:{}", self.admin_port));
        if let Some((port, role)) = self.relay {
            command.env("GATEWAY_RELAY", format!("nats://127.0.0.1:{port}"));
            command.env("GATEWAY_RELAY_ROLE", role);
        }
        command.args(&self.binary.flags).stdin(Stdio::null());
        let child = command.stdout(log.try_clone()?).stderr(log).spawn()?;
        self.cleanup.add(child.id().unwrap_or_default());
        self.process = Some(child);
        Ok(())
    }

    /// kill -9.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        self.send(Signal::SIGKILL);
        self.ended(Duration::from_secs(10)).await.map(|_| ())
    }

    /// SIGTERM, and what it exits with.
    pub(crate) async fn terminate(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.send(Signal::SIGTERM);
        self.ended(Duration::from_secs(10)).await
    }

    /// Sends a signal to the process, if there is one.
    pub(crate) fn send(&self, what: Signal) {
        if let Some(pid) = self.process.as_ref().and_then(Child::id) {
            signal(pid, what);
        }
    }

    /// How it ended, if it did so without being asked.
    pub(crate) fn died(&mut self) -> Option<ExitStatus> {
        let child = self.process.as_mut()?;
        let pid = child.id();
        let status = child.try_wait().ok().flatten()?;
        self.cleanup.done(pid.unwrap_or_default());
        self.process = None;
        Some(status)
    }

    /// Resident memory in KiB, where /proc tells.
    pub(crate) fn memory_kib(&self) -> Option<u64> {
        let pid = self.process.as_ref()?.id()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.split_whitespace().next()?.parse().ok()
    }

    /// Waits until /readyz says 200.
    pub(crate) async fn ready(&mut self, patience: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let said = readyz(self.admin_port).await.unwrap_or_else(|error| error.to_string());
            if said.starts_with("HTTP/1.1 200") {
                return Ok(());
            }
            if let Some(status) = self.died() {
                bail!("gateway {} ended at its start: {status}\n{}", self.name, self.last_words());
            }
            if Instant::now() > deadline {
                bail!("gateway {} is not ready: {said}\n{}", self.name, self.last_words());
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Whether it answers, be it that it is not ready: it then hears signals too.
    pub(crate) async fn answers(&self) -> bool {
        readyz(self.admin_port).await.is_ok_and(|said| said.starts_with("HTTP/1.1 "))
    }

    /// The lines of its log that tell of a panic, or hold a token.
    pub(crate) fn panics(&self) -> Vec<String> {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        // Parts of a JWT begin so.
        let is_bad = |line: &&str| line.contains("panicked at") || line.contains("eyJ");
        log.lines().filter(is_bad).map(str::to_owned).collect()
    }

    /// The end of its log.
    pub(crate) fn last_words(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }

    async fn ended(&mut self, patience: Duration) -> anyhow::Result<Option<ExitStatus>> {
        let Some(mut child) = self.process.take() else { return Ok(None) };
        let pid = child.id().unwrap_or_default();
        let status = match timeout(patience, child.wait()).await {
            Ok(status) => Some(status?),
            // It does not end when asked to: the caller says so in the report.
            Err(_) => {
                child.kill().await?;
                None
            }
        };
        self.cleanup.done(pid);
        Ok(status)
    }
}

async fn readyz(port: u16) -> io::Result<String> {
    let asking = async {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        let request = b"GET /readyz HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    };
    let in_time = timeout(Duration::from_secs(2), asking).await;
    in_time.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
