//! notify-gateway: the notifications an application writes to Postgres, in the
//! browser at once, over Server-Sent Events.
//!
//! A row travels one way, and the modules are in the order of its journey's
//! layers; each imports only from those above it here:
//!
//! ```text
//! Postgres → listener → decode → dispatch → encode once → hub → stream → socket
//! ```
//!
//! The only way back is a guard being dropped: a response that ends leaves the
//! hub. What a notification did not bring is read from the table, by the one
//! road that also serves reconnects:
//!
//! ```text
//! Postgres → sweep → dispatch → hub: "lost" → stream → replay → Postgres
//! ```

// What things are. Pure.
pub mod error;
pub mod backoff;
pub mod cursor;
pub mod notification;
pub mod outcome;
pub mod secret;
pub mod tls;
pub mod horizon;
pub mod feed;
pub mod sse;
pub mod problem;
// Who it is; what is counted.
pub mod auth;
pub mod config;
pub mod revocation;
pub mod metrics;
pub mod telemetry;
pub mod health;
pub mod ends;
pub mod limits;
// The streams' side, and where the two halves meet.
pub mod hub;
pub mod looks;
pub mod quiet;
pub mod dispatch;
// The road to Postgres: what is asked and heard, how, and when.
pub mod store;
pub mod listen;
pub mod postgres;
pub mod listener;
pub mod sweep;
pub mod relay;
pub mod revocation_watch;
pub mod upkeep;
pub mod replay;
// The tasks of the whole.
pub mod supervisor;
pub mod systemd;
// The way out: the socket, one response on it, the requests, the whole.
pub mod server;
pub mod stream;
pub mod http;
pub mod gateway;
// The SQL side, and a database to try it on: for `dev` and the tests, never for
// `serve`.
pub mod schema;
pub mod throwaway;
// What can be wrong with any of it.
pub mod doctor;
// For `fuzz/`, and its properties for the tests.
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
