//! Whether the database can be reached, and if not, why.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::{Client, Error, SimpleQueryMessage, config::Host, error::SqlState};
use tokio_util::task::AbortOnDropHandle;

use super::{Finding, Verdict};
use crate::{config::Database, error::chain, postgres::connector::Connector};

/// Longer than `connect_timeout` for each of a few hosts.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection on which everything is read only.
pub(super) struct Reading {
    client: Client,
    _connection: AbortOnDropHandle<()>,
}

/// One row's columns.
pub(super) type Row = Vec<Option<String>>;

impl Reading {
    /// The rows of a query, in a transaction of its own: a pooler in transaction mode may
    /// stand in between, so nothing is prepared and no setting stays.
    pub(super) async fn rows(&self, query: &str) -> Result<Vec<Row>, Error> {
        let sql = format!(
            "BEGIN READ ONLY; SET LOCAL search_path = pg_catalog, pg_temp; \
             SET LOCAL statement_timeout = '10s'; {query}; COMMIT"
        );
        let messages = self.client.simple_query(&sql).await;
        if messages.is_err() {
            let _ended = self.client.simple_query("ROLLBACK").await;
        }
        let row = |message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect())
            }
            _ => None,
        };
        Ok(messages?.into_iter().filter_map(row).collect())
    }
}

/// Connects, or says why that is not possible.
pub(super) async fn connect(
    connector: &Connector,
    database: &Database,
    setting: &str,
) -> Result<(Finding, Reading), Finding> {
    let wrong = |what: String| Finding::new("reach", Verdict::Wrong, what);
    let place = place(&database.config);
    let (client, connection) = timeout(PATIENCE, connector.connect())
        .await
        .map_err(|_| {
            wrong(format!("{place} gives no answer: a firewall, or another address? See {setting}"))
        })?
        .map_err(|error| explain(&error, &place, setting))?;
    let connection = tokio::spawn(async move {
        // What ends it, a query says.
        let _ended = connection.await;
    });
    let reading = Reading { client, _connection: AbortOnDropHandle::new(connection) };
    let facts = reading
        .rows(
            "SELECT current_setting('server_version'), current_setting('server_version_num'), \
             current_user, pg_is_in_recovery(), current_database()",
        )
        .await
        .map_err(|error| explain(&error, &place, setting))?;
    let fact = |at: usize| facts.first().and_then(|row| row[at].clone()).unwrap_or_default();
    if fact(1).parse().unwrap_or(0) < 130_000 {
        let what = format!("{place} is PostgreSQL {}, and the gateway needs 13 or later", fact(0));
        return Err(wrong(what));
    }
    if fact(3) == "t" {
        return Err(wrong(format!(
            "{place} is a standby, which takes no LISTEN: name the primary in {setting}, or all \
             hosts with target_session_attrs=read-write"
        )));
    }
    let what = format!("PostgreSQL {} at {place}, database {}, as {}", fact(0), fact(4), fact(2));
    Ok((Finding::new("reach", Verdict::Ok, what), reading))
}

/// Host and port, and nothing that may be a secret.
fn place(config: &tokio_postgres::Config) -> String {
    let ports = config.get_ports();
    let hosts = config.get_hosts().iter().enumerate().map(|(at, host)| {
        let port = ports.get(at).or(ports.first()).copied().unwrap_or(5432);
        match host {
            Host::Tcp(name) => format!("{name}:{port}"),
            Host::Unix(directory) => format!("{}:{port}", directory.display()),
        }
    });
    hosts.collect::<Vec<_>>().join(", ")
}

fn explain(error: &Error, place: &str, setting: &str) -> Finding {
    let finding = |what: String| Finding::new("reach", Verdict::Wrong, what);
    let text = chain(error);
    let Some(refusal) = error.as_db_error() else {
        let why = if text.contains("lookup address") {
            format!("the host's name is not known here: see {setting}")
        } else if text.contains("refused") {
            "nothing listens there: is the server up, and is the port right?".to_owned()
        } else if text.contains("does not support TLS") {
            format!("the server has no TLS, and sslmode in {setting} asks for it")
        } else if text.contains("TLS") || text.contains("certificate") {
            "the server's certificate is not accepted: see sslmode and sslrootcert".to_owned()
        } else if text.contains("password missing") {
            format!("the server wants a password, and {setting} has none")
        } else {
            format!("see {setting}")
        };
        return finding(format!("{place} cannot be reached ({text}): {why}"));
    };
    let said = refusal.message();
    match *refusal.code() {
        SqlState::INVALID_PASSWORD => {
            finding(format!("{place} refuses the password in {setting}: {said}"))
        }
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION => finding(format!(
            "{place} does not let the role in: {said}. Does it exist, with LOGIN, and has \
             pg_hba.conf a line for it and this address?"
        )),
        SqlState::INVALID_CATALOG_NAME => {
            finding(format!("{place} has no such database: {said}. See {setting}"))
        }
        SqlState::TOO_MANY_CONNECTIONS => finding(format!(
            "{place} has no connection left: {said}. The gateway takes one for LISTEN and up to \
             --pool-size (GATEWAY_POOL_SIZE) more"
        )),
        _ => finding(format!("{place} refuses: {said}")),
    }
}
