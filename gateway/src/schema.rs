//! `schema.sql`, which the gateway carries.

use crate::config::TableName;

/// The schema as it stands in the repository.
const SCHEMA: &str = include_str!("../../schema.sql");

/// How that file names the table and the channel.
const TABLE: &str = "public.notifications";
const CHANNEL: &str = "'notifications'";

/// The SQL that prepares a database for this table and channel. Safe to run any
/// number of times.
pub fn sql(table: &TableName, channel: &str) -> String {
    let channel = format!("'{}'", channel.replace('\'', "''"));
    // The table's name stands in string constants too; a quote in it would end
    // them, and `TableName` holds none of either kind.
    SCHEMA.replace(CHANNEL, &channel).replace(TABLE, &table.to_string())
}
