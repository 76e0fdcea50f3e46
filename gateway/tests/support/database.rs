//! A database of its own for each test.

use std::{
    process::{Command, Output},
    sync::OnceLock,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use notify_gateway::{schema, throwaway::Postgres};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use super::{PATIENCE, discretion};

/// The server the tests share. The last reference is never dropped; the server
/// notices by itself when this process is gone.
fn shared_server() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(|| {
        Postgres::start(&["fsync=off", "max_connections=300"]).expect("a PostgreSQL server")
    })
}

/// The gateway's own role: a member of `notify_gateway`, and nothing else.
const GATEWAY_ROLE: &str = "
    DO $$ BEGIN
        PERFORM pg_advisory_xact_lock(hashtextextended('notify_gateway schema', 0));
        IF to_regrole('notify_gateway') IS NULL THEN
            CREATE ROLE notify_gateway NOLOGIN;
        END IF;
        IF to_regrole('bell') IS NULL THEN
            CREATE ROLE bell LOGIN PASSWORD 'bell' IN ROLE notify_gateway;
        END IF;
    END $$";

pub(crate) struct Database {
    /// For the gateway: as the role that the documentation tells people to make.
    pub(crate) url: String,
    /// For the application and its DBA: as the superuser.
    pub(crate) owner_url: String,
    pub(crate) client: Client,
}

impl Database {
    /// A fresh database with the schema in it.
    pub(crate) async fn new() -> Self {
        let database = Self::empty().await;
        database.client.batch_execute(&default_schema()).await.unwrap();
        database
    }

    /// A fresh database with nothing in it.
    pub(crate) async fn empty() -> Self {
        // The first to come starts the server, which blocks.
        let server = tokio::task::spawn_blocking(shared_server).await.unwrap();
        Self::empty_on(server).await
    }

    /// As [`Database::new`], on a server of the test's own.
    pub(crate) async fn new_on(server: &Postgres) -> Self {
        let database = Self::empty_on(server).await;
        database.client.batch_execute(&default_schema()).await.unwrap();
        database
    }

    /// As [`Database::empty`], likewise.
    pub(crate) async fn empty_on(server: &Postgres) -> Self {
        let name = format!("test_{}", Uuid::new_v4().simple());
        let admin = connect(&server.url("postgres")).await;
        admin.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        // Roles belong to the cluster: two tests that make one at once would both fail.
        admin.batch_execute(GATEWAY_ROLE).await.unwrap();
        let owner_url = server.url(&name);
        let client = connect(&owner_url).await;
        let url = format!("postgres://bell:bell@127.0.0.1:{}/{name}", server.port());
        Self { url, owner_url, client }
    }

    /// What a DBA types into psql; panics when psql complains.
    pub(crate) async fn psql(&self, sql: &str) -> String {
        let output = self.try_psql(sql, &[]).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "psql: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// psql as it is, with environment variables of the caller's.
    pub(crate) async fn try_psql(&self, sql: &str, env: &[(&str, &str)]) -> Output {
        let binaries = notify_gateway::throwaway::find_binaries().expect("PostgreSQL");
        let mut command = Command::new(binaries.join("psql"));
        command.args([
            "--no-psqlrc",
            "--quiet",
            "-v",
            "ON_ERROR_STOP=1",
            "-At",
            "-d",
            &self.owner_url,
        ]);
        command.args(["-c", sql]).envs(env.iter().copied());
        tokio::task::spawn_blocking(move || command.output().expect("psql")).await.unwrap()
    }

    /// Another session.
    pub(crate) async fn session(&self) -> Client {
        connect(&self.owner_url).await
    }

    /// Inserts a row as an application would.
    pub(crate) async fn insert(&self, user: Uuid, title: &str) {
        let sql = "INSERT INTO notifications (user_id, title, message) VALUES ($1, $2, $3)";
        self.client.execute(sql, &[&user, &title, &discretion::MESSAGE]).await.unwrap();
    }
}

pub(crate) fn default_schema() -> String {
    schema::sql("notifications")
}

pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A server of the test's own.
pub(crate) async fn own_server(options: &'static [&'static str]) -> Postgres {
    tokio::task::spawn_blocking(|| Postgres::start(options).unwrap()).await.unwrap()
}

/// Kills all processes of the server at once. It can be started again.
pub(crate) fn crash(server: &mut Postgres) {
    let file = std::fs::read_to_string(server.data_directory().join("postmaster.pid")).unwrap();
    let postmaster: i32 = file.lines().next().unwrap().parse().unwrap();
    let postmaster = Pid::from_raw(postmaster);
    // Stopped first: it would begin a recovery of its own, or start a process that we miss.
    kill(postmaster, Signal::SIGSTOP).unwrap();
    let tasks = format!("/proc/{postmaster}/task/{postmaster}/children");
    let children = std::fs::read_to_string(tasks).unwrap();
    let children = children.split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap()));
    let all: Vec<Pid> = [postmaster].into_iter().chain(children).collect();
    for &pid in &all {
        // A backend may have ended meanwhile.
        let _gone = kill(pid, Signal::SIGKILL);
    }
    server.stop().unwrap();
    // One that still has the shared memory keeps the next server from starting.
    let deadline = Instant::now() + PATIENCE;
    while all.iter().any(|&pid| is_running(pid)) {
        assert!(Instant::now() < deadline, "the server's processes are still there");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether the process has not ended. Its parent may not have asked for its status yet.
fn is_running(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next());
    state.is_some_and(|state| state != "Z" && state != "X")
}
