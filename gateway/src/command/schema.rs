//! `notify-gateway schema`.

use std::io::Write as _;

use anyhow::Context as _;
use notify_gateway::{
    config::{TableName, parse_channel},
    schema,
};

use super::Failure;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The table, optionally with its schema
    #[arg(long, env = "GATEWAY_TABLE", default_value = "notifications", value_name = "NAME")]
    table: TableName,
    /// The channel the trigger notifies on
    #[arg(long, env = "GATEWAY_CHANNEL", default_value = "notifications",
          value_parser = parse_channel, value_name = "NAME")]
    channel: String,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let sql = schema::sql(&arguments.table, &arguments.channel);
    std::io::stdout().write_all(sql.as_bytes()).context("cannot print the schema")?;
    Ok(())
}
