//! `schema.sql`, which the gateway carries.

/// The schema as it stands in the repository.
const SCHEMA: &str = include_str!("../../schema.sql");

/// How that file names the channel, once.
const CHANNEL: &str = "channel  CONSTANT text := 'notifications'";

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
    fn the_channel_is_named_once() {
        assert_eq!(SCHEMA.matches(CHANNEL).count(), 1);
        assert!(sql("it's").contains("CONSTANT text := 'it''s'"));
    }
}
