//! The two roads to Postgres: the one LISTEN connection and the pool.

pub mod beat;
pub mod connector;
pub mod listener;
pub mod store;
