//! Rows by INSERT, as an application would write them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use anyhow::Context as _;
use tokio::{sync::Mutex, task::JoinSet, time::sleep};
use tokio_postgres::{Client, NoTls, Statement};

use super::{Book, Job, Outgoing, Pace, on_time};
use crate::clock;

/// Where and how.
#[derive(Clone, Debug)]
pub(crate) struct PostgresWriter {
    pub(crate) url: String,
    /// `$1` the users and `$2` the messages, both `text[]`.
    pub(crate) insert: String,
    pub(crate) connections: usize,
}

/// The INSERT for a table like the gateway's.
pub(crate) fn insert(table: &str) -> String {
    format!(
        "INSERT INTO {table} (user_id, type, title, message) \
         SELECT row.u::uuid, 'info', 'load test', row.m \
         FROM unnest($1::text[], $2::text[]) AS row (u, m)"
    )
}

struct Session {
    client: Client,
    insert: Statement,
    /// Held by a transaction that takes several statements.
    alone: Mutex<()>,
}

impl PostgresWriter {
    pub(super) async fn write(&self, job: &Job, book: &Arc<Book>) -> anyhow::Result<()> {
        let mut sessions = Vec::new();
        for _ in 0..self.connections.max(1) {
            sessions.push(Arc::new(self.connect().await?));
        }
        let mut tasks = JoinSet::new();
        match job.pace {
            Pace::OnTime { from_ns } => {
                let mut due = on_time(&job.plan, from_ns);
                while let Some(number) = due.recv().await {
                    // Statements are sent without waiting for the answers to
                    // those before them: a slow database holds up nothing.
                    let session = sessions[number % sessions.len()].clone();
                    tasks.spawn(transact(session, book.clone(), number, job.timed_commit));
                    while tasks.try_join_next().is_some() {}
                }
            }
            Pace::AsFastAsTaken { from_ns } => {
                sleep(clock::until(from_ns)).await;
                let next = Arc::new(AtomicUsize::new(0));
                for session in sessions {
                    let (book, next, count) = (book.clone(), next.clone(), job.plan.len());
                    let timed_commit = job.timed_commit;
                    tasks.spawn(async move {
                        loop {
                            let number = next.fetch_add(1, Ordering::Relaxed);
                            if number >= count {
                                return;
                            }
                            transact(session.clone(), book.clone(), number, timed_commit).await;
                        }
                    });
                }
            }
        }
        while let Some(ended) = tasks.join_next().await {
            ended.context("a writer has panicked")?;
        }
        Ok(())
    }

    async fn connect(&self) -> anyhow::Result<Session> {
        let (client, connection) = tokio_postgres::connect(&self.url, NoTls)
            .await
            .context("cannot connect to Postgres")?;
        tokio::spawn(connection);
        let insert = client.prepare(&self.insert).await.context("the INSERT is refused")?;
        Ok(Session { client, insert, alone: Mutex::new(()) })
    }
}

async fn transact(session: Arc<Session>, book: Arc<Book>, number: usize, timed_commit: bool) {
    let outcome = if timed_commit {
        with_timed_commit(&session, &book, number).await
    } else {
        let outgoing = book.outgoing(number);
        book.sent(number);
        insert_rows(&session, &outgoing).await
    };
    book.answered(number, outcome.map_err(|error| said(&error)));
}

/// The rows first, which takes its time when they are many; what is timed is
/// the commit, before which nobody could have been told.
async fn with_timed_commit(
    session: &Session,
    book: &Book,
    number: usize,
) -> Result<(), tokio_postgres::Error> {
    let _alone = session.alone.lock().await;
    let outgoing = book.outgoing(number);
    session.client.batch_execute("BEGIN").await?;
    if let Err(error) = insert_rows(session, &outgoing).await {
        // The error that matters is the first.
        let _rolled_back = session.client.batch_execute("ROLLBACK").await;
        return Err(error);
    }
    book.sent(outgoing.number);
    session.client.batch_execute("COMMIT").await
}

async fn insert_rows(session: &Session, rows: &Outgoing<'_>) -> Result<(), tokio_postgres::Error> {
    session.client.execute(&session.insert, &[&rows.users, &rows.messages]).await.map(drop)
}

fn said(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |said| said.message().to_owned())
}
