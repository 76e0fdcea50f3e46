//! An application: writes rows in every way one can, and knows of each
//! transaction whether it committed, did not, or whether only the table knows.

use std::{pin::pin, sync::Arc, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::SinkExt as _;
use notify_gateway::throwaway;
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, NoTls};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::ledger::{Ledger, Outcome, RowNo, TransactionNo};

/// One action, the longest of which holds its transaction open for six seconds
/// and may stand behind a lock for as long again.
pub(crate) const ACTION_TIMEOUT: Duration = Duration::from_secs(20);

/// Rows in an array each, which is also their order inside the transaction.
const INSERT: &str = "INSERT INTO notifications (id, user_id, title, message) \
     SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[])";

/// One connection's worth of application.
pub(crate) struct Writer {
    pub(crate) number: usize,
    /// The proxy before the database.
    pub(crate) port: u16,
    pub(crate) password: String,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) rng: fastrand::Rng,
    /// About how many rows a second this writer makes.
    pub(crate) rows_per_second: f64,
    pub(crate) stop: CancellationToken,
}

/// Rows on their way into an INSERT.
#[derive(Default)]
struct Batch {
    rows: Vec<RowNo>,
    ids: Vec<Uuid>,
    users: Vec<Uuid>,
    titles: Vec<String>,
    messages: Vec<String>,
}

impl Writer {
    /// Writes until told to stop.
    pub(crate) async fn run(mut self) {
        while !self.stop.is_cancelled() {
            // Whatever ends a session, the next one goes on; what it left
            // undecided is in the books.
            let ended = self.session().await;
            if ended.is_err() {
                self.ledger.books().count("writer's sessions lost");
                sleep(Duration::from_millis(self.rng.u64(50..300))).await;
            }
        }
    }

    /// One transaction that writes early, commits after `open` and writes once
    /// more in between. Whether it does is in the books.
    pub(crate) async fn hold(mut self, open: Duration) {
        let transaction = self.ledger.books().begin(self.number, "long");
        let held = timeout(open + ACTION_TIMEOUT, self.held(transaction, open)).await;
        self.enter(transaction, held.is_ok_and(|held| held.is_ok()));
    }

    async fn held(&mut self, transaction: TransactionNo, open: Duration) -> anyhow::Result<()> {
        let client = self.connect().await?;
        client.batch_execute("BEGIN").await?;
        for index in 0..2 {
            let rows = self.rng.u32(1..4);
            self.rows(transaction, index * 10, rows).insert(&client).await?;
            sleep(open / 2).await;
        }
        self.commits(transaction);
        Ok(client.batch_execute("COMMIT").await?)
    }

    async fn session(&mut self) -> anyhow::Result<()> {
        let client = self.connect().await?;
        // As logical replication's apply worker writes: ordinary triggers are
        // silent, and only ENABLE ALWAYS ones fire.
        let is_replica = self.rng.u8(0..8) == 0;
        if is_replica {
            client.batch_execute("SET session_replication_role = replica").await?;
        }
        // Sessions come and go, and with them their share of the sequence.
        for _ in 0..self.rng.u32(5..60) {
            if self.stop.is_cancelled() {
                return Ok(());
            }
            let rows = self.act(&client).await?;
            let pause = f64::from(rows) / self.rows_per_second * (0.5 + self.rng.f64());
            tokio::select! {
                () = sleep(Duration::from_secs_f64(pause)) => {}
                () = self.stop.cancelled() => {}
            }
        }
        Ok(())
    }

    pub(crate) async fn connect(&self) -> anyhow::Result<Client> {
        let Self { port, password, .. } = self;
        let url = format!("postgres://{}:{password}@127.0.0.1:{port}/postgres", throwaway::USER);
        let connecting = tokio_postgres::connect(&url, NoTls);
        let (client, connection) = timeout(Duration::from_secs(5), connecting).await??;
        tokio::spawn(connection);
        Ok(client)
    }

    /// One transaction of some kind; says how many rows it tried to write.
    async fn act(&mut self, client: &Client) -> anyhow::Result<u32> {
        let kind = match self.rng.u8(0..100) {
            0..35 => "single",
            35..50 => "multi-row",
            50..72 => "transaction",
            72..80 => "copy",
            80..84 => "burst",
            84..89 => "late commit",
            89..94 => "rollback",
            _ => "no rows",
        };
        if kind == "burst" {
            let rows = self.rng.u32(10..40);
            for _ in 0..rows {
                self.settled(client, kind).await?;
            }
            return Ok(rows);
        }
        self.settled(client, kind).await
    }

    /// A transaction whose outcome is in the books in the end, whatever
    /// happened to its connection.
    async fn settled(&mut self, client: &Client, kind: &'static str) -> anyhow::Result<u32> {
        let transaction = self.ledger.books().begin(self.number, kind);
        let before = self.ledger.books().rows.len();
        let acting = self.transaction(client, kind, transaction);
        let done = timeout(ACTION_TIMEOUT, acting).await.context("too slow");
        self.enter(transaction, matches!(done, Ok(Ok(()))));
        done??;
        let books = self.ledger.books();
        let made = books.rows[before..].iter().filter(|row| row.transaction == transaction).count();
        Ok(u32::try_from(made)?)
    }

    /// Enters the outcome of a transaction whose last statement went through,
    /// or did not.
    fn enter(&self, transaction: TransactionNo, is_done: bool) {
        let now = self.ledger.now();
        let mut books = self.ledger.books();
        let entry = &mut books.transactions[transaction];
        entry.outcome = match (is_done, entry.commit_sent) {
            (true, Some(_)) => Outcome::Committed(now),
            (false, Some(_)) => Outcome::Unknown(now),
            (_, None) => Outcome::RolledBack,
        };
    }

    async fn transaction(
        &mut self,
        client: &Client,
        kind: &str,
        transaction: TransactionNo,
    ) -> anyhow::Result<()> {
        match kind {
            "single" | "burst" => {
                let batch = self.rows(transaction, 0, 1);
                self.commits(transaction);
                batch.insert(client).await
            }
            "multi-row" => {
                let rows = self.rng.u32(2..15);
                let batch = self.rows(transaction, 0, rows);
                self.commits(transaction);
                batch.insert(client).await
            }
            "copy" => {
                let rows = self.rng.u32(5..40);
                let batch = self.rows(transaction, 0, rows);
                self.commits(transaction);
                batch.copy(client).await
            }
            "no rows" => self.burn(client).await,
            _ => self.statements(client, kind, transaction).await,
        }
    }

    /// Several statements, some of them taken back to a savepoint.
    async fn statements(
        &mut self,
        client: &Client,
        kind: &str,
        transaction: TransactionNo,
    ) -> anyhow::Result<()> {
        client.batch_execute("BEGIN").await?;
        let mut index = 0;
        for _ in 0..self.rng.u32(1..6) {
            let rows = self.rng.u32(1..4);
            let in_savepoint = self.rng.bool();
            if in_savepoint {
                client.batch_execute("SAVEPOINT s").await?;
            }
            let batch = self.rows(transaction, index, rows);
            index += rows;
            if self.rng.u8(0..8) == 0 {
                batch.copy(client).await
            } else {
                batch.insert(client).await
            }?;
            if in_savepoint && self.rng.bool() {
                client.batch_execute("ROLLBACK TO SAVEPOINT s").await?;
                let mut books = self.ledger.books();
                batch.rows.iter().for_each(|&row| books.rows[row].is_undone = true);
            } else if in_savepoint && self.rng.bool() {
                client.batch_execute("RELEASE SAVEPOINT s").await?;
            }
            let pause = match kind {
                "late commit" => self.rng.u64(0..2000),
                _ => self.rng.u64(0..30),
            };
            sleep(Duration::from_millis(pause)).await;
        }
        if kind == "rollback" {
            return Ok(client.batch_execute("ROLLBACK").await?);
        }
        self.commits(transaction);
        // ROLLBACK is what COMMIT answers in a transaction that failed; none
        // of the statements above did.
        Ok(client.batch_execute("COMMIT").await?)
    }

    /// Transaction numbers that no row gets: what a crash takes back.
    async fn burn(&mut self, client: &Client) -> anyhow::Result<()> {
        let sql = match self.rng.u8(0..3) {
            0 => "BEGIN; SELECT pg_current_xact_id(); ROLLBACK",
            1 => "SELECT pg_current_xact_id()",
            _ => "SELECT pg_notify('another_channel', 'of another application')",
        };
        for _ in 0..self.rng.u32(1..20) {
            client.batch_execute(sql).await?;
        }
        Ok(())
    }

    /// From here on the transaction may commit.
    fn commits(&self, transaction: TransactionNo) {
        let now = self.ledger.now();
        self.ledger.books().transactions[transaction].commit_sent = Some(now);
    }

    /// Makes rows, to random users, and enters them into the books.
    fn rows(&mut self, transaction: TransactionNo, index: u32, count: u32) -> Batch {
        let mut batch = Batch::default();
        for index in index..index + count {
            let message = self.message();
            let mut books = self.ledger.books();
            let user = self.rng.usize(0..books.users.len());
            let row = books.insert(transaction, user, index, message.len());
            batch.rows.push(row);
            batch.ids.push(books.rows[row].id);
            batch.users.push(books.users[user]);
            batch.titles.push(books.title(row));
            batch.messages.push(message);
        }
        batch
    }

    fn message(&mut self) -> String {
        let bytes = match self.rng.u16(0..1000) {
            0..3 => 300_000,
            // With the rest of the row, NOTIFY's 8000 bytes are in the middle.
            3..60 => self.rng.usize(7_400..7_800),
            60..100 => self.rng.usize(1_000..7_000),
            _ => self.rng.usize(20..150),
        };
        let letter = ["x", "é", "🔔"][self.rng.usize(0..3)];
        letter.repeat(bytes / letter.len())
    }
}

impl Batch {
    async fn insert(&self, client: &Client) -> anyhow::Result<()> {
        let Self { ids, users, titles, messages, .. } = self;
        client.execute(INSERT, &[ids, users, titles, messages]).await?;
        Ok(())
    }

    async fn copy(&self, client: &Client) -> anyhow::Result<()> {
        let sql = "COPY notifications (id, user_id, title, message) FROM STDIN";
        let mut sink = pin!(client.copy_in::<_, Bytes>(sql).await?);
        for row in 0..self.rows.len() {
            let (id, user) = (self.ids[row], self.users[row]);
            let (title, message) = (&self.titles[row], &self.messages[row]);
            sink.send(Bytes::from(format!("{id}\t{user}\t{title}\t{message}\n"))).await?;
        }
        sink.finish().await?;
        Ok(())
    }
}
