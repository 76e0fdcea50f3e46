//! The two roads to Postgres: the one LISTEN connection and the pool.

pub mod beat;
pub mod listener;
pub mod store;
