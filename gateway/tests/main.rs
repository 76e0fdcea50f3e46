//! What the gateway promises, on a real PostgreSQL, over real sockets.
//!
//! One file per promise; each test has a database and a gateway of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test says what it expects by unwrapping it, and what it measured by printing it; \
              clippy.toml covers test functions only"
)]

mod support;

mod alterations;
mod attacks;
mod backup;
mod browser;
mod changes;
mod check;
mod connecting;
mod connections;
mod cors;
mod database_url;
mod dev;
mod epochs;
mod guides;
mod hostile;
mod idle;
mod isolation;
mod key_set;
mod limits;
mod lists;
mod log;
mod metrics;
mod migration_tools;
mod neighbours;
mod observability;
mod openapi;
mod outage;
mod plans;
mod pooler;
mod replay;
mod payloads;
mod proxies;
mod proxy;
mod quiet;
mod relay;
mod resume;
mod revocation;
mod schema;
mod shapes;
mod silent;
mod slow_reader;
mod stopped_reader;
mod storm;
mod settings;
mod settings_page;
mod shutdown;
mod systemd;
mod tls;
mod tokens;
#[cfg(feature = "otel")]
mod traces;
mod upgrade;
mod troubleshooting;
mod user_story;
