//! What can be wrong between a row and the browser: found, explained, and with what mends it.
//!
//! Nothing is changed: the database is read in transactions that are read-only, and the one
//! notification that is sent goes to a channel that nobody else listens to.

mod activity;
mod host;
mod reach;
mod relay;
mod round_trip;
mod schema;
mod stream;
mod tables;
mod token;

use std::{sync::Arc, time::Duration};

use http::Uri;
use serde::Serialize;

use crate::{
    config::Config,
    error::chain,
    postgres::{
        connector::Connector,
        store::{Channels, PostgresStore},
    },
};

/// One to notify with and to read with, and those that look for a LISTEN that stayed behind a
/// pooler.
const CONNECTIONS: usize = 2;

/// What was looked at, and how it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at, by a name that stays the same.
    pub about: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// For people: what is so, and what follows from it.
    pub what: String,
    /// SQL, commands or settings that mend it, each to be used as it stands.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mend: Vec<String>,
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Worth knowing; nothing has to be done.
    Note,
    /// It works, and may not go on to.
    Warning,
    /// Notifications are not delivered, or late, or nobody is let in.
    Wrong,
}

impl Finding {
    fn new(about: &'static str, verdict: Verdict, what: impl Into<String>) -> Self {
        Self { about, verdict, what: what.into(), mend: Vec::new() }
    }

    fn mended_by(mut self, mend: impl Into<String>) -> Self {
        self.mend.push(mend.into());
        self
    }
}

/// What to look at besides.
#[derive(Clone, Copy, Debug)]
pub struct Questions<'a> {
    /// A token that is to be let in.
    pub token: Option<&'a str>,
    /// Where browsers ask for the stream.
    pub url: Option<&'a Uri>,
    /// How long a transaction may be open before it is told of.
    pub long_transaction: Duration,
}

/// Looks at all there is to look at.
pub async fn examine(config: &Config, questions: Questions<'_>) -> Vec<Finding> {
    let mut findings = host::examine(config);
    let connector = Arc::new(Connector::new(config.database.clone()));
    let channels = Channels { events: config.channel.clone(), probes: String::new() };
    // It connects when it is first asked for something.
    let store = match PostgresStore::new(Arc::clone(&connector), CONNECTIONS, channels) {
        Ok(store) => store,
        Err(error) => return vec![Finding::new("database", Verdict::Wrong, chain(&error))],
    };
    let reached =
        reach::connect(&connector, &config.database, "--database-url (DATABASE_URL)").await;
    let is_reached = reached.is_ok();
    match reached {
        Ok((reached, client)) => {
            findings.push(reached);
            findings.extend(in_the_database(config, questions, &client).await);
            // An edge does not listen, and may reach the database through any pooler.
            if config.relay.as_ref().is_none_or(|relay| relay.role.is_source()) {
                findings.extend(round_trip::examine(config, &store).await);
            }
        }
        Err(finding) => findings.push(finding),
    }
    if let Some(relay) = &config.relay {
        findings.push(relay::examine(relay).await);
    }
    let store = is_reached.then_some(&store);
    findings.extend(token::examine(&config.auth, questions.token, store).await);
    if let Some(url) = questions.url {
        findings.push(stream::examine(url, questions.token, config.heartbeat).await);
    }
    findings
}

async fn in_the_database(
    config: &Config,
    questions: Questions<'_>,
    client: &reach::Reading,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let looked = async {
        let is_there = schema::examine(client, &config.channel, &mut findings).await?;
        if is_there {
            tables::examine(client, &mut findings).await?;
        }
        activity::examine(client, questions.long_transaction, &mut findings).await
    };
    if let Err(error) = looked.await {
        let what = format!("the database refuses to say how it is: {}", chain(&error));
        findings.push(Finding::new("database", Verdict::Wrong, what));
    }
    findings
}
