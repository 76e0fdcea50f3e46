//! The small steps that the gateway takes for each event, each heartbeat and each cursor, with
//! inputs that never change.
//!
//! `benches/instructions.rs` counts their instructions under valgrind, and `bench/benches/micro.rs`
//! measures their times.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a case whose step fails has nothing to measure"
)]

mod cases;
mod gateway;

pub use cases::{Case, NAMES, OPERATIONS, case};
