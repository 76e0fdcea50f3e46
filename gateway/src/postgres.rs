//! The road from Postgres: the one LISTEN connection.

pub mod listener;
