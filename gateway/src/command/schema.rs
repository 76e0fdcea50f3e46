//! `notify-gateway schema`.

use notify_gateway::{config::parse_channel, schema};

use super::{Failure, apply::Apply};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The channel the triggers notify on
    #[arg(long, env = "GATEWAY_CHANNEL", default_value = "notifications",
          value_parser = parse_channel, value_name = "NAME")]
    channel: String,
    #[command(flatten)]
    apply: Apply,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    arguments.apply.print_or_run(&schema::sql(&arguments.channel))
}
