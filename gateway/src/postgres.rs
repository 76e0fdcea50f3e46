//! The two roads to Postgres: the one LISTEN connection and the pool.

pub mod connector;
pub mod lead;
pub mod listen;
pub mod pooler;
pub mod store;
