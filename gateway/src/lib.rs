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
//! hub.

// What things are. Pure.
pub mod config;
pub mod notification;
pub mod sse;
// Who it is; what is counted.
pub mod auth;
pub mod ends;
pub mod health;
pub mod limits;
pub mod metrics;
pub mod telemetry;
// The two ends of the road: the streams, and Postgres.
pub mod hub;
pub mod postgres;
// Where they meet.
pub mod dispatch;
pub mod stream;
// The way out.
pub mod gateway;
pub mod http;
pub mod server;
// The SQL side, and a database to try it on: for `dev` and the tests, never for `serve`.
pub mod schema;
pub mod throwaway;
