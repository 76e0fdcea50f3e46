//! Tells whoever has started this process where everything is and what goes
//! wrong, so that somebody else's page can be open while it does.
//!
//! A line of JSON each, on standard output:
//!
//! - `{"stage": {"streams": […], "database": "…", "secret": "…"}}` once, when all
//!   is ready: the gateways as their clients reach them, the database as its
//!   writers do (a superuser's URL, good across promotions), and what tokens
//!   are signed with;
//! - `{"began": {"fault": "…", "detail": "…", "number": …}}` and, with the same
//!   number, `{"ended": …}`;
//! - `{"over": {}}` when the last fault has ended and the roads are open.
//!
//! Everything then stays until standard input ends; should it end before, the
//! faults do.

use std::io::{self, Write as _};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::ledger::Fault;

/// Says nothing unless it was asked for.
#[derive(Default)]
pub(crate) struct Announcer {
    released: Option<CancellationToken>,
}

impl Announcer {
    /// One that speaks.
    pub(crate) fn hire() -> Self {
        let released = CancellationToken::new();
        let token = released.clone();
        // A thread of its own, which ends with the process: a read from standard
        // input cannot be taken back, and would hold up a runtime's end.
        std::thread::spawn(move || {
            let _read = io::copy(&mut io::stdin().lock(), &mut io::sink());
            token.cancel();
        });
        Self { released: Some(released) }
    }

    /// Where everything is.
    pub(crate) fn stage(&self, streams: &[String], database: &str, secret: &str) {
        let stage = json!({ "streams": streams, "database": database, "secret": secret });
        self.say("stage", &stage);
    }

    /// A fault has begun or, where it has an end, ended.
    pub(crate) fn fault(&self, number: usize, fault: &Fault) {
        let what = if fault.ended.is_none() { "began" } else { "ended" };
        let Fault { kind, detail, .. } = fault;
        self.say(what, &json!({ "fault": kind.to_string(), "detail": detail, "number": number }));
    }

    /// Nothing goes wrong any more.
    pub(crate) fn over(&self) {
        self.say("over", &json!({}));
    }

    /// Whether there is anybody to wait for.
    pub(crate) fn is_asked_for(&self) -> bool {
        self.released.is_some()
    }

    /// Waits until whoever listens has seen enough; for ever where nobody does.
    pub(crate) async fn released(&self) {
        match &self.released {
            Some(released) => released.cancelled().await,
            None => std::future::pending().await,
        }
    }

    fn say(&self, what: &str, value: &Value) {
        if self.is_asked_for() {
            let mut out = io::stdout().lock();
            // Who has gone does not hear it.
            let _written = writeln!(out, "{}", json!({ what: value })).and_then(|()| out.flush());
        }
    }
}
