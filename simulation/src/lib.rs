//! A simulation of notify-gateway: the real core (cursor, feed, horizon, hub,
//! dispatcher) between a simulated Postgres and simulated clients.
//!
//! One seed is one *history*: a few dozen steps in which writers, the parts of
//! one to three gateways, clients and faults take turns in any order that the
//! real ones could. Nothing waits and nothing is shared between histories, so
//! that a million of them take minutes, and the one that fails is replayed by
//! its seed.
//!
//! What runs is the gateway's own code: sweeper, replayer, listener and streams
//! are its own futures, polled by the dice, each of which asks and hears the
//! simulated Postgres through the traits `Store` and `Listen`, and waits for its
//! turn at each statement. Their clock is the history's.
//!
//! In some histories the gateways have a relay: then edge and source run in place of
//! listener and sweeper, and meet a simulated stream of messages through `Relay` and
//! a simulated lock through `Leadership`. The stream delays what it has, loses it, wipes
//! it, gives it twice or not at all, and cannot be reached.
//!
//! What is not here, and so not proved: writers with `synchronous_commit = off`,
//! a database set back on its own timeline, another cluster with the same
//! epochs, statements that fail by themselves, revocations, rows that are
//! deleted before they are read, more rows than the dispatcher remembers.

// The world around the gateway.
pub mod sabotage;
pub mod plan;
pub mod scene;
pub mod turns;
pub mod postgres;
pub mod ears;
pub mod relay;
pub mod server;
// The gateway, and the database as it sees it.
pub mod database;
pub mod relay_client;
pub mod lead;
pub mod stream;
pub mod part;
pub mod relayed;
pub mod gateway;
// Who judges, and who reads.
pub mod oracle;
pub mod client;
// All of it, once and many times.
pub mod history;
pub mod campaign;
