//! How a connection is made, and read.

use std::{future::poll_fn, pin::pin, sync::Arc};

use arc_swap::ArcSwap;
use deadpool_postgres::Connect;
use futures_util::future::BoxFuture;
use tokio::{sync::Notify, task::JoinHandle};
use tokio_postgres::{
    AsyncMessage, Client, Connection, Error, Socket, error::DbError, tls::MakeTlsConnect,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::Database;

/// A connection to Postgres, inside TLS or not as the settings say.
pub type PostgresConnection =
    Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// Connects as the settings say now.
pub struct Connector {
    database: ArcSwap<Database>,
    replaced: Notify,
}

impl Connector {
    /// A connector for these settings.
    pub fn new(database: Database) -> Self {
        Self { database: ArcSwap::from_pointee(database), replaced: Notify::new() }
    }

    /// Runs statements, on a connection of their own; what the server remarks goes
    /// to `notice`.
    ///
    /// # Errors
    ///
    /// No connection, or the first statement's refusal.
    pub async fn run_script(
        &self,
        sql: &str,
        mut notice: impl FnMut(&DbError),
    ) -> Result<(), Error> {
        let (client, mut connection) = self.connect().await?;
        let mut running = pin!(client.batch_execute(sql));
        loop {
            tokio::select! {
                biased;
                done = &mut running => return done,
                message = next_message(&mut connection) => match message? {
                    Some(AsyncMessage::Notice(remark)) => notice(&remark),
                    Some(_) => {}
                    // The answer says why.
                    None => return running.await,
                },
            }
        }
    }

    /// Connects as these settings say from now on. Connections that are open stay
    /// open.
    pub fn replace(&self, database: Database) {
        self.database.store(Arc::new(database));
        self.replaced.notify_waiters();
    }

    /// Waits until the settings are others.
    pub async fn replaced(&self) {
        self.replaced.notified().await;
    }

    /// A connection, which lives while it is polled.
    ///
    /// # Errors
    ///
    /// No connection, no TLS, or a refusal of Postgres.
    pub async fn connect(&self) -> Result<(Client, PostgresConnection), Error> {
        let database = self.database.load_full();
        let tls = MakeRustlsConnect::new(database.tls.as_ref().clone());
        database.config.connect(tls).await
    }
}

/// The next message that no query has asked for; `None` at the end of the
/// connection.
pub(super) async fn next_message(
    connection: &mut PostgresConnection,
) -> Result<Option<AsyncMessage>, Error> {
    poll_fn(|cx| connection.poll_message(cx)).await.transpose()
}

/// Makes the connections of the pool.
pub(super) struct Pooled(pub(super) Arc<Connector>);

impl Connect for Pooled {
    fn connect(
        &self,
        _settings_of_the_pool: &tokio_postgres::Config,
    ) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), Error>> {
        Box::pin(async {
            let (client, connection) = self.0.connect().await?;
            let connection = tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection to the database ended");
                }
            });
            Ok((client, connection))
        })
    }
}
