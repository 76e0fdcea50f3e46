//! Whether a notification that is sent comes back on the connection that listens.

use super::{Finding, Verdict, reach};
use crate::{
    config::Config,
    error::chain,
    postgres::{connector::Connector, pooler, store::PostgresStore},
};

/// `store` sends the notification.
pub(super) async fn examine(config: &Config, store: &PostgresStore) -> Vec<Finding> {
    const SETTING: &str = "--listen-database-url (LISTEN_DATABASE_URL)";
    let wrong = |what: String| vec![Finding::new("listen", Verdict::Wrong, what)];
    let listen = Connector::new(config.listen_database.clone());
    if let Err(mut finding) = reach::connect(&listen, &config.listen_database, SETTING).await {
        finding.about = "listen";
        return vec![finding];
    }
    let begun = std::time::Instant::now();
    match pooler::round_trip(&listen, store).await {
        Ok(true) => {
            let taken = begun.elapsed().as_millis();
            let what = format!("a notification came back, {taken} ms after it was asked for");
            vec![Finding::new("listen", Verdict::Ok, what)]
        }
        Ok(false) => {
            let what = "a notification that was sent did not come back: a pooler in transaction \
                        mode stands in between, or the connection that listens goes to another \
                        database";
            let finding = Finding::new("listen", Verdict::Wrong, what);
            vec![
                finding.mended_by(
                    "LISTEN_DATABASE_URL=postgres://…  # the address of Postgres itself",
                ),
            ]
        }
        Err(error) => wrong(chain(&error)),
    }
}
