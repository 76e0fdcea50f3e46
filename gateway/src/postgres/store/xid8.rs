//! Postgres' `xid8`, which its Rust library does not bring.

use std::error::Error;

use tokio_postgres::types::{
    FromSql, IsNull, ToSql, Type, accepts, private::BytesMut, to_sql_checked,
};

/// A transaction number of 64 bits, as Postgres sends and reads it: big-endian
/// (`xid8send`, `xid8recv`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Xid8(pub(super) u64);

impl FromSql<'_> for Xid8 {
    fn from_sql(_: &Type, raw: &[u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(u64::from_be_bytes(raw.try_into()?)))
    }

    accepts!(XID8);
}

impl ToSql for Xid8 {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&self.0.to_be_bytes());
        Ok(IsNull::No)
    }

    accepts!(XID8);
    to_sql_checked!();
}
