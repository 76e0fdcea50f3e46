//! An application whose rows change: it inserts, updates, gives rows to other users,
//! writes NULLs, deletes. It keeps no books of outcomes: what counts is what the table
//! shows in the end.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::{sleep, timeout};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::writer::{ACTION_TIMEOUT, Writer};

/// Rows that are there at once, about.
const ROWS: usize = 30;

/// The rows that may be there.
pub(crate) type Rows = Arc<Mutex<Vec<Uuid>>>;

/// One connection's worth of it. Several change the same rows: they wait for each other's
/// locks, and the one that comes last may have had its number first.
pub(crate) struct Changer {
    pub(crate) writer: Writer,
    rows: Rows,
}

impl Changer {
    /// One that has not begun.
    pub(crate) fn new(writer: Writer, rows: Rows) -> Self {
        Self { writer, rows }
    }

    /// Changes rows until told to stop.
    pub(crate) async fn run(mut self) {
        while !self.writer.stop.is_cancelled() {
            if self.session().await.is_err() {
                sleep(Duration::from_millis(self.writer.rng.u64(50..300))).await;
            }
        }
    }

    async fn session(&mut self) -> anyhow::Result<()> {
        let client = self.writer.connect().await?;
        for _ in 0..self.writer.rng.u32(10..100) {
            timeout(ACTION_TIMEOUT, self.transaction(&client)).await??;
            let pause = Duration::from_millis(self.writer.rng.u64(0..150));
            tokio::select! {
                () = sleep(pause) => {}
                () = self.writer.stop.cancelled() => return Ok(()),
            }
        }
        Ok(())
    }

    async fn transaction(&mut self, client: &Client) -> anyhow::Result<()> {
        client.batch_execute("BEGIN").await?;
        for _ in 0..self.writer.rng.u32(1..5) {
            self.change(client).await?;
            if self.writer.rng.u8(0..6) == 0 {
                client.batch_execute("SAVEPOINT s").await?;
                self.change(client).await?;
                client.batch_execute("ROLLBACK TO SAVEPOINT s").await?;
            }
            if self.writer.rng.u8(0..10) == 0 {
                sleep(Duration::from_millis(self.writer.rng.u64(0..1500))).await;
            }
        }
        let end = if self.writer.rng.u8(0..10) == 0 { "ROLLBACK" } else { "COMMIT" };
        Ok(client.batch_execute(end).await?)
    }

    async fn change(&mut self, client: &Client) -> anyhow::Result<()> {
        let user = self.user();
        if self.rows.lock().len() < ROWS && self.writer.rng.bool() {
            let id = Uuid::new_v4();
            // Known before it is there: it may be, whatever becomes of the answer.
            self.rows.lock().push(id);
            self.writer.ledger.books().states.known(id);
            let insert = "INSERT INTO notifications (id, user_id, title, message) \
                          VALUES ($1, $2, 'state 1', nullif($3, ''))";
            client.execute(insert, &[&id, &user, &self.text()]).await?;
            return Ok(());
        }
        let Some(id) = self.writer.rng.choice(&*self.rows.lock()).copied() else {
            return Ok(());
        };
        const VERSION: &str = "title = 'state ' || 1 + split_part(title, ' ', 2)::bigint";
        match self.writer.rng.u8(0..20) {
            0..10 => {
                let update = format!(
                    "UPDATE notifications SET {VERSION}, message = nullif($2, '') WHERE id = $1"
                );
                client.execute(&update, &[&id, &self.text()]).await?;
            }
            10..12 => {
                let same = "UPDATE notifications SET title = title WHERE id = $1";
                client.execute(same, &[&id]).await?;
            }
            12..16 => {
                let give =
                    format!("UPDATE notifications SET {VERSION}, user_id = $2 WHERE id = $1");
                client.execute(&give, &[&id, &user]).await?;
            }
            16..18 => {
                client.execute("DELETE FROM notifications WHERE id = $1", &[&id]).await?;
                // It may be there still, if that is rolled back.
                if self.writer.rng.bool() {
                    self.rows.lock().retain(|row| *row != id);
                }
            }
            _ => {
                let gone = "DELETE FROM notifications WHERE id = $1 RETURNING title";
                // And again, under the same id.
                if let Some(row) = client.query_opt(gone, &[&id]).await? {
                    let title: &str = row.get(0);
                    let again = "INSERT INTO notifications (id, user_id, title, message) \
                                 VALUES ($1, $2, $3, NULL)";
                    client.execute(again, &[&id, &user, &title]).await?;
                }
            }
        }
        Ok(())
    }

    fn user(&mut self) -> Uuid {
        let users = &self.writer.ledger.books().users;
        users[self.writer.rng.usize(0..users.len())]
    }

    fn text(&mut self) -> String {
        let lengths = [0, 0, 20, 200, 7900];
        "x".repeat(lengths[self.writer.rng.usize(0..lengths.len())])
    }
}

/// Changes every row once more, so that whatever a promotion has taken back is told.
pub(crate) async fn touch(client: &Client) -> anyhow::Result<u64> {
    let touch = "UPDATE notifications SET title = title || ' last' WHERE title LIKE 'state %'";
    Ok(client.execute(touch, &[]).await?)
}
