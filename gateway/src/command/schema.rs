//! `notify-gateway schema`.

use notify_gateway::{config::parse_channel, schema};

use super::{Failure, apply::Apply};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The channel the triggers notify on
    #[arg(long, env = "GATEWAY_CHANNEL", default_value = "notifications",
          value_parser = parse_channel, value_name = "NAME")]
    channel: String,
    /// Make no table `notifications`: yours has another name
    #[arg(long)]
    no_table: bool,
    #[command(flatten)]
    apply: Apply,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let sql = if arguments.no_table { schema::sql_without_table } else { schema::sql };
    arguments.apply.print_or_run(&sql(&arguments.channel))
}
