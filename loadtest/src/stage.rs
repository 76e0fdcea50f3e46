//! `--self-contained`: a Postgres, the schema, a gateway, all of them ours and
//! gone with us.

use std::{
    fs::File,
    io,
    net::{Ipv4Addr, TcpListener},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use notify_gateway::{schema, throwaway::Postgres};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_postgres::NoTls;
use uuid::Uuid;

/// How long the gateway may take to be ready.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// What a limit on connects would measure is the limit.
const SETTINGS: &[(&str, &str)] = &[
    ("GATEWAY_CONNECT_RATE", "0"),
    ("GATEWAY_USER_CONNECT_RATE", "0"),
    ("GATEWAY_MAX_STREAMS_PER_USER", "1000000"),
    ("RUST_LOG", "warn"),
];

/// All that runs for a test. Dropping it ends it, in this order.
pub(crate) struct Stage {
    gateway: Gateway,
    postgres: Postgres,
    pub(crate) secret: String,
}

struct Gateway {
    guard: Child,
    /// Its end is the guard's order to end the gateway.
    orders: Option<ChildStdin>,
    pid: u32,
    port: u16,
}

impl Stage {
    /// Starts everything and waits until the gateway is ready. `arguments` go to
    /// the gateway as they are.
    pub(crate) async fn start(binary: &Path, arguments: &[String]) -> anyhow::Result<Self> {
        let settings = ["max_connections=120"];
        let postgres = tokio::task::spawn_blocking(move || Postgres::start(&settings))
            .await?
            .context("cannot start PostgreSQL")?;
        let password = Uuid::new_v4().simple().to_string();
        prepare(&postgres.url("postgres"), &password).await?;
        let secret = Uuid::new_v4().to_string();
        let database_url = format!(
            "postgres://loadtest_gateway:{password}@127.0.0.1:{}/postgres",
            postgres.port()
        );
        let directory = postgres.data_directory();
        let log = directory.parent().unwrap_or(&directory).join("gateway.log");
        let gateway = Gateway::start(binary, arguments, &database_url, &secret, &log).await?;
        Ok(Self { gateway, postgres, secret })
    }

    pub(crate) fn database_url(&self) -> String {
        self.postgres.url("postgres")
    }

    pub(crate) fn stream_url(&self) -> String {
        format!("http://127.0.0.1:{}{}", self.gateway.port, notify_gateway::http::STREAM_PATH)
    }

    pub(crate) fn gateway_pid(&self) -> u32 {
        self.gateway.pid
    }

    /// The server's first process.
    pub(crate) fn postgres_pid(&self) -> Option<u32> {
        let file = self.postgres.data_directory().join("postmaster.pid");
        std::fs::read_to_string(file).ok()?.lines().next()?.parse().ok()
    }
}

/// The gateway's binary: beside our own unless said otherwise.
pub(crate) fn gateway_binary(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    let path = match given {
        Some(path) => path.to_owned(),
        None => std::env::current_exe()?.with_file_name("notify-gateway"),
    };
    if !path.is_file() {
        bail!("{} is not there; build it, or name it with --gateway-bin", path.display());
    }
    Ok(path)
}

async fn prepare(url: &str, password: &str) -> anyhow::Result<()> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    client.batch_execute(&schema::sql("notifications")).await.context("schema.sql")?;
    let role =
        format!("CREATE ROLE loadtest_gateway LOGIN PASSWORD '{password}' IN ROLE notify_gateway");
    client.batch_execute(&role).await.context("the gateway's role")?;
    Ok(())
}

impl Gateway {
    async fn start(
        binary: &Path,
        arguments: &[String],
        database_url: &str,
        secret: &str,
        log: &Path,
    ) -> anyhow::Result<Self> {
        // However we end, the pipe closes, and the guard ends the gateway: it
        // has a moment to say goodbye.
        const GUARD: &str = r#"
            log=$1; shift
            "$@" >"$log" 2>&1 &
            pid=$!
            echo "$pid"
            read -r _
            kill -INT "$pid" 2>/dev/null
            (sleep 8; kill -KILL "$pid") >/dev/null 2>&1 &
            killer=$!
            wait "$pid"
            kill "$killer""#;
        File::create(log).context("the gateway's log")?;
        let (port, admin_port) = (free_port()?, free_port()?);
        let mut guard = Command::new("/bin/sh")
            .args(["-c", GUARD, "guard"])
            .arg(log)
            .arg(binary)
            .arg("serve")
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(SETTINGS.iter().copied())
            .env("DATABASE_URL", database_url)
            .env("JWT_SECRET", secret)
            .env("GATEWAY_BIND", format!("127.0.0.1:{port}"))
            .env("GATEWAY_ADMIN_BIND", format!("127.0.0.1:{admin_port}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .context("cannot start the gateway")?;
        let orders = guard.stdin.take();
        let mut said = String::new();
        let mut out = io::BufReader::new(guard.stdout.take().context("a guard without output")?);
        io::BufRead::read_line(&mut out, &mut said)?;
        let pid = said.trim().parse().context("the gateway's pid")?;
        let gateway = Self { guard, orders, pid, port };
        gateway.ready(admin_port, log).await?;
        Ok(gateway)
    }

    async fn ready(&self, admin_port: u16, log: &Path) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let asked = timeout(Duration::from_secs(2), readyz(admin_port)).await;
            if asked.is_ok_and(|said| said.is_ok_and(|said| said.starts_with("HTTP/1.1 200"))) {
                return Ok(());
            }
            let log = std::fs::read_to_string(log).unwrap_or_default();
            if !Path::new(&format!("/proc/{}", self.pid)).exists() {
                bail!("the gateway ended at its start:\n{}", log.trim());
            }
            if Instant::now() > deadline {
                bail!("the gateway is not ready after {START_TIMEOUT:?}:\n{}", log.trim());
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ended = self.guard.wait();
    }
}

async fn readyz(port: u16) -> io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// A free port below those the kernel gives to outgoing connections (32768 and
/// up on Linux): none of our thousands of streams may take it meanwhile.
fn free_port() -> anyhow::Result<u16> {
    let listen = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(|_| port);
    (0..100).find_map(|_| listen(fastrand::u16(15_000..32_000)).ok()).context("no free port")
}
