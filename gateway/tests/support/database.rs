//! A database of its own for each test.

use std::{
    process::{Command, Output},
    sync::OnceLock,
};

use notify_gateway::{schema, throwaway::Postgres};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

/// The server the tests share. The last reference is never dropped; the server
/// notices by itself when this process is gone.
fn shared_server() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(|| {
        Postgres::start(&["fsync=off", "max_connections=300"]).expect("a PostgreSQL server")
    })
}

pub(crate) struct Database {
    pub(crate) url: String,
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

    async fn empty_on(server: &Postgres) -> Self {
        let name = format!("test_{}", Uuid::new_v4().simple());
        let admin = connect(&server.url("postgres")).await;
        admin.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        let url = server.url(&name);
        Self { client: connect(&url).await, url }
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
        command.args(["--no-psqlrc", "--quiet", "-v", "ON_ERROR_STOP=1", "-At", "-d", &self.url]);
        command.args(["-c", sql]).envs(env.iter().copied());
        tokio::task::spawn_blocking(move || command.output().expect("psql")).await.unwrap()
    }

    /// Another session.
    pub(crate) async fn session(&self) -> Client {
        connect(&self.url).await
    }

    /// Inserts a row as an application would.
    pub(crate) async fn insert(&self, user: Uuid, title: &str) {
        let sql = "INSERT INTO notifications (user_id, title, message) VALUES ($1, $2, 'text')";
        self.client.execute(sql, &[&user, &title]).await.unwrap();
    }
}

pub(crate) fn default_schema() -> String {
    schema::sql(&"notifications".parse().unwrap(), "notifications")
}

pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}
