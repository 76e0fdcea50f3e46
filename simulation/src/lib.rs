//! A simulation of notify-gateway: the real core (cursor, feed, horizon, hub,
//! dispatcher) between a simulated Postgres and simulated clients.
//!
//! One seed is one *history*: a few dozen steps in which writers, the parts of
//! one to three gateways, clients and faults take turns in any order that the
//! real ones could. Nothing waits and nothing is shared between histories, so
//! that a million of them take minutes, and the one that fails is replayed by
//! its seed.
//!
//! The parts of the gateway that do I/O (beat, listener, replayer, stream) are
//! written anew here, each as a machine that goes from one `await` of the
//! original to the next. **Where the original changes its order, the machine of
//! the same name has to follow**, or the simulation proves something about
//! another program.
//!
//! What is not here, and so not proved: writers with `synchronous_commit = off`,
//! a database set back on its own timeline, another cluster with the same
//! epochs, statements that fail by themselves, revocations, rows that are
//! deleted before they are read, more rows than the dispatcher remembers.

// The world around the gateway.
pub mod sabotage;
pub mod scene;
pub mod postgres;
// The gateway, in the order in which a row passes its parts.
pub mod listener;
pub mod beat;
pub mod replay;
pub mod stream;
pub mod gateway;
// Who reads, and who judges.
pub mod oracle;
pub mod client;
// All of it, once and many times.
pub mod plan;
pub mod history;
pub mod campaign;
