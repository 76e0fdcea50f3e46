//! A PostgreSQL that can be stopped, crashed, and replaced by its standby.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, Uid, User},
};
use notify_gateway::throwaway;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use crate::{cleanup::Cleanup, port, proxy::Proxy};

/// The gateways' login role, a member of what `schema.sql` grants to: a right
/// that is missing there shows as a loss here.
pub(crate) const GATEWAY_ROLE: &str = "bell";

/// Recovery after a crash, on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A fast shutdown waits for a checkpoint and, beside a frozen backend, for
/// ever.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// The primary, and the standby that may take its place.
pub(crate) struct Cluster {
    home: Home,
    primary: Server,
    standby: Option<Server>,
    replication: Proxy,
    /// Where the primary is at the moment; changes with a promotion.
    port: Arc<AtomicU16>,
    servers_made: u32,
}

/// What all servers of a run have in common.
struct Home {
    binaries: PathBuf,
    directory: PathBuf,
    password: String,
    account: Option<User>,
    settings: Vec<String>,
    cleanup: Arc<Cleanup>,
}

/// One server and its data.
struct Server {
    data: PathBuf,
    port: u16,
    process: Option<Child>,
}

/// How a server is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// `pg_ctl stop -m fast`: everything is written.
    Fast,
    /// `pg_ctl stop -m immediate`: recovery at the next start.
    Immediate,
    /// kill -9 of every process at once. What was in the WAL buffers is gone;
    /// what had been written stays, with the kernel.
    Crash,
    /// kill -9 of one backend: the postmaster throws out all others and
    /// recovers by itself.
    BackendCrash,
}

impl Cluster {
    /// Makes a primary in `directory` and starts it. `settings` are `name=value`.
    pub(crate) async fn start(
        directory: &Path,
        settings: &[&str],
        cleanup: Arc<Cleanup>,
    ) -> anyhow::Result<Self> {
        let binaries = throwaway::find_binaries().context("PostgreSQL is not installed")?;
        // PostgreSQL refuses to run as root.
        let account = if Uid::effective().is_root() { Some(unprivileged()?) } else { None };
        let own = [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "logging_collector=off",
            // A kill -9 leaves the page cache: what Postgres has written is
            // there after it, synced or not.
            "fsync=off",
            "max_connections=120",
            // So that a standby which lags behind a stalled line finds its WAL.
            "wal_keep_size=256MB",
            "wal_retrieve_retry_interval=500ms",
        ];
        let home = Home {
            binaries,
            directory: directory.to_owned(),
            password: Uuid::new_v4().simple().to_string(),
            account,
            settings: own.iter().chain(settings).map(|&setting| setting.to_owned()).collect(),
            cleanup,
        };
        let mut primary = home.server(1)?;
        home.initdb(&primary).await?;
        home.launch(&mut primary).await?;
        let replication = Proxy::start(primary.port, false, fastrand::Rng::new()).await?;
        let port = Arc::new(AtomicU16::new(primary.port));
        Ok(Self { home, primary, standby: None, replication, port, servers_made: 1 })
    }

    /// How to reach the primary, whichever server it is by then.
    pub(crate) fn address(&self) -> Address {
        Address { port: self.port.clone(), password: self.home.password.clone() }
    }

    /// Ends the primary and, except where it recovers by itself, leaves it so.
    pub(crate) async fn stop(&mut self, how: Stop) -> anyhow::Result<()> {
        self.home.stop(&mut self.primary, how).await
    }

    /// Starts the primary again, on the same port, and waits until it answers.
    pub(crate) async fn resume(&mut self) -> anyhow::Result<()> {
        self.home.launch(&mut self.primary).await
    }

    /// Copies the primary into a standby that follows it asynchronously.
    pub(crate) async fn build_standby(&mut self) -> anyhow::Result<()> {
        self.servers_made += 1;
        let mut standby = self.home.server(self.servers_made)?;
        self.replication.heal();
        self.replication.repoint(self.primary.port);
        self.home.base_backup(&standby, self.replication.port()).await?;
        self.home.launch(&mut standby).await?;
        self.standby = Some(standby);
        Ok(())
    }

    /// Whether a standby is there and follows the primary.
    pub(crate) async fn is_replicated(&self) -> bool {
        let asking = async {
            let client = self.address().connect().await.ok()?;
            let sql = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
            Some(client.query_one(sql, &[]).await.ok()?.get::<_, i64>(0) > 0)
        };
        self.standby.is_some()
            && timeout(Duration::from_secs(5), asking).await.ok().flatten().unwrap_or(false)
    }

    /// Lets the standby fall behind for `lag`, crashes the primary and promotes
    /// the standby. What was committed during the lag is lost, as it is with
    /// asynchronous replication. The old primary is removed.
    pub(crate) async fn fail_over(&mut self, lag: Duration) -> anyhow::Result<()> {
        let mut standby = self.standby.take().context("no standby to promote")?;
        self.replication.stall();
        sleep(lag).await;
        self.home.stop(&mut self.primary, Stop::Crash).await?;
        // By RST: what is stalled must not arrive after all.
        self.replication.cut(100, true);
        std::mem::swap(&mut self.primary, &mut standby);
        self.home.remove(&standby);
        let client = self.home.connect(self.primary.port).await.context("the standby")?;
        let promoted: bool = client.query_one("SELECT pg_promote(true, 60)", &[]).await?.get(0);
        if !promoted {
            bail!("the standby was not promoted within a minute");
        }
        self.port.store(self.primary.port, Ordering::Relaxed);
        Ok(())
    }

    /// Ends everything at once.
    pub(crate) async fn end(&mut self) {
        for server in [Some(&mut self.primary), self.standby.as_mut()].into_iter().flatten() {
            // The directory goes next: nothing of it is wanted.
            let _ended = self.home.stop(server, Stop::Immediate).await;
        }
    }
}

/// How to reach the primary.
#[derive(Clone)]
pub(crate) struct Address {
    port: Arc<AtomicU16>,
    password: String,
}

impl Address {
    /// The port of the primary at the moment.
    pub(crate) fn port(&self) -> u16 {
        self.port.load(Ordering::Relaxed)
    }

    /// The superuser's password; the gateways' role has the same.
    pub(crate) fn password(&self) -> &str {
        &self.password
    }

    /// A superuser's URL, by the road that begins at 127.0.0.1:`port`.
    pub(crate) fn url(&self, port: u16) -> String {
        url(port, &self.password)
    }

    /// A superuser's connection, past all proxies.
    pub(crate) async fn connect(&self) -> anyhow::Result<Client> {
        connect(self.port(), &self.password).await
    }
}

/// A superuser's connection to 127.0.0.1:`port`. It ends when the client is
/// dropped.
pub(crate) async fn connect(port: u16, password: &str) -> anyhow::Result<Client> {
    let url = url(port, password);
    let connecting = tokio_postgres::connect(&url, NoTls);
    let (client, connection) = timeout(Duration::from_secs(5), connecting)
        .await
        .context("no answer from PostgreSQL")??;
    tokio::spawn(connection);
    Ok(client)
}

fn url(port: u16, password: &str) -> String {
    format!("postgres://{}:{password}@127.0.0.1:{port}/postgres", throwaway::USER)
}

impl Home {
    fn server(&self, number: u32) -> anyhow::Result<Server> {
        let data = self.directory.join(format!("server-{number}"));
        fs::create_dir(&data)?;
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700))?;
        self.hand_over(&data)?;
        Ok(Server { data, port: port::free()?, process: None })
    }

    async fn initdb(&self, server: &Server) -> anyhow::Result<()> {
        let password_file = self.directory.join("password");
        let mut file = File::create(&password_file)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(self.password.as_bytes())?;
        self.hand_over(&password_file)?;
        let mut initdb = self.command("initdb");
        initdb.args(["--username", throwaway::USER, "--auth", "scram-sha-256"]);
        initdb.args(["--encoding", "UTF8", "--locale", "C", "--no-sync"]);
        initdb.arg("--pwfile").arg(&password_file).arg("--pgdata").arg(&server.data);
        succeed(initdb).await
    }

    async fn base_backup(&self, standby: &Server, port: u16) -> anyhow::Result<()> {
        let url = format!("postgres://{}:{}@127.0.0.1:{port}/", throwaway::USER, self.password);
        let mut backup = self.command("pg_basebackup");
        backup.args(["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast"]);
        backup.args(["--no-sync", "--dbname", &url, "--pgdata"]).arg(&standby.data);
        succeed(backup).await
    }

    /// Starts the server and waits until it answers a query.
    async fn launch(&self, server: &mut Server) -> anyhow::Result<()> {
        let log =
            File::options().create(true).append(true).open(self.directory.join("postgres.log"))?;
        let mut postgres = self.command("postgres");
        postgres.arg("-D").arg(&server.data).args(["-p", &server.port.to_string()]);
        for setting in &self.settings {
            postgres.args(["-c", setting]);
        }
        let child = postgres.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        self.cleanup.add(child.id().unwrap_or_default());
        let child = server.process.insert(child);
        let deadline = Instant::now() + START_TIMEOUT;
        while self.connect(server.port).await.is_err() {
            if let Some(status) = child.try_wait()? {
                bail!("PostgreSQL ended at its start: {status}; see postgres.log (--keep)");
            }
            if Instant::now() > deadline {
                bail!("PostgreSQL did not start within {START_TIMEOUT:?}");
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    async fn connect(&self, port: u16) -> anyhow::Result<Client> {
        let client = connect(port, &self.password).await?;
        client.simple_query("SELECT 1").await?;
        Ok(client)
    }

    async fn stop(&self, server: &mut Server, how: Stop) -> anyhow::Result<()> {
        let Some(mut child) = server.process.take() else { return Ok(()) };
        let Some(pid) = child.id() else { return Ok(()) };
        let children = children(pid);
        match how {
            Stop::Fast => signal(pid, Signal::SIGINT),
            Stop::Immediate => signal(pid, Signal::SIGQUIT),
            Stop::Crash => {
                // The postmaster first: it must not see its children die and
                // begin to recover.
                for pid in std::iter::once(pid).chain(children.iter().copied()) {
                    signal(pid, Signal::SIGKILL);
                }
            }
            Stop::BackendCrash => {
                let backend = children.into_iter().rev().find(|&pid| is_backend(pid));
                backend.into_iter().for_each(|pid| signal(pid, Signal::SIGKILL));
                server.process = Some(child);
                return Ok(());
            }
        }
        if timeout(STOP_TIMEOUT, child.wait()).await.is_err() {
            self::children(pid).into_iter().for_each(|pid| signal(pid, Signal::SIGKILL));
            signal(pid, Signal::SIGKILL);
            child.wait().await?;
        }
        self.cleanup.done(pid);
        // Those left hold the shared memory, and the next start would refuse.
        let deadline = Instant::now() + STOP_TIMEOUT;
        while children.iter().any(|&pid| is_alive(pid)) && Instant::now() < deadline {
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    fn remove(&self, server: &Server) {
        // It goes with the whole directory at the end, if not now.
        let _removed = fs::remove_dir_all(&server.data);
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.binaries.join(program));
        command.current_dir(&self.directory).env_clear().env("LC_ALL", "C");
        // Ctrl-C is for the harness: it ends the run, and then Postgres.
        command.process_group(0).kill_on_drop(true);
        if let Some(account) = &self.account {
            command.uid(account.uid.as_raw()).gid(account.gid.as_raw());
        }
        command
    }

    fn hand_over(&self, path: &Path) -> io::Result<()> {
        match &self.account {
            Some(account) => chown(path, Some(account.uid.as_raw()), Some(account.gid.as_raw())),
            None => Ok(()),
        }
    }
}

/// The account root runs the server under.
fn unprivileged() -> anyhow::Result<User> {
    ["postgres", "nobody"]
        .into_iter()
        .find_map(|name| User::from_name(name).ok().flatten())
        .context("PostgreSQL does not run as root, and there is no account postgres or nobody")
}

async fn succeed(mut command: Command) -> anyhow::Result<()> {
    let output = timeout(START_TIMEOUT, command.output()).await.context("it takes too long")??;
    if !output.status.success() {
        let program = command.as_std().get_program().to_string_lossy().into_owned();
        bail!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Sends a signal to a process of ours; one that is gone is what was wanted, or
/// will be noticed by whoever waits for it.
pub(crate) fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().filter(|&pid| pid > 1) {
        let _sent = kill(Pid::from_raw(pid), signal);
    }
}

/// The processes whose parent this is, oldest first.
fn children(parent: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut children: Vec<u32> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|&pid| stat(pid).is_some_and(|(_, of)| of == parent))
        .collect();
    children.sort_unstable();
    children
}

fn is_alive(pid: u32) -> bool {
    // Whom nobody reaps any more is dead all the same.
    stat(pid).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

/// Whether a process of Postgres serves a client: its title names one.
fn is_backend(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|title| title.contains("127.0.0.1("))
}

/// The state and the parent of a process, proc(5).
fn stat(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it is in parentheses, and may hold some of its own.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}
