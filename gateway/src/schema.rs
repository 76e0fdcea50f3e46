//! `schema.sql`, which the gateway carries.

/// The schema as it stands in the repository.
const SCHEMA: &str = include_str!("../../schema.sql");

/// How that file names the channel, once.
const CHANNEL: &str = "channel  CONSTANT text := 'notifications'";

/// What that file says of the table `notifications`, once.
const MAKES_TABLE: &str = "makes_table CONSTANT pg_catalog.bool := true";

/// As [`sql`], for a database whose table has another name: none is made that is called
/// `notifications`.
pub fn sql_without_table(channel: &str) -> String {
    sql(channel).replace(MAKES_TABLE, "makes_table CONSTANT pg_catalog.bool := false")
}

/// The SQL that prepares a database, with triggers that notify on `channel`. Safe
/// to run any number of times.
pub fn sql(channel: &str) -> String {
    let channel = channel.replace('\'', "''");
    SCHEMA.replace(CHANNEL, &format!("channel  CONSTANT text := '{channel}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_exchanged_is_there_once() {
        assert_eq!(SCHEMA.matches(CHANNEL).count(), 1);
        assert_eq!(SCHEMA.matches(MAKES_TABLE).count(), 1);
        assert!(sql("it's").contains("CONSTANT text := 'it''s'"));
    }
}
