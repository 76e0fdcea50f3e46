//! SQL that a command prints, or runs with the gateway's own URL.

use std::io::Write as _;

use anyhow::Context as _;
use notify_gateway::{config::DatabaseSettings, postgres::connector::Connector};
use tokio_postgres::error::DbError;

use super::{Failure, serve};

#[derive(Debug, clap::Args)]
pub(super) struct Apply {
    /// Run it, rather than print it
    #[arg(long)]
    apply: bool,
    #[command(flatten)]
    database: DatabaseSettings,
}

impl Apply {
    /// Prints the SQL, or runs it and prints what the server has to say.
    pub(super) fn print_or_run(&self, sql: &str) -> Result<(), Failure> {
        if !self.apply {
            std::io::stdout().write_all(sql.as_bytes()).context("cannot print the SQL")?;
            return Ok(());
        }
        let connector = Connector::new(self.database.database()?);
        serve::runtime(1)?.block_on(async {
            let outcome = connector.run_script(sql, |notice| say(&told(notice))).await;
            match outcome.as_ref().map_err(tokio_postgres::Error::as_db_error) {
                Err(Some(refusal)) => Err(anyhow::anyhow!("{}", told(refusal)).into()),
                _ => Ok(outcome.context("cannot reach the database (DATABASE_URL)")?),
            }
        })
    }
}

/// What the server says, with what there is to do.
fn told(message: &DbError) -> String {
    let parts = [Some(message.message()), message.detail(), message.hint()];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn say(text: &str) {
    // A closed pipe is no failure.
    let _written = writeln!(std::io::stderr(), "notify-gateway: {text}");
}
