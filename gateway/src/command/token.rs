//! `notify-gateway token`.

use std::{io::Write as _, time::Duration};

use anyhow::Context as _;
use notify_gateway::{auth, config::AuthSettings, notification::UserId};

use super::Failure;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Whose notifications the token opens: the user's id as the table has it
    #[arg(long, value_name = "ID")]
    user: UserId,
    /// How long it is valid
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration,
          value_name = "DURATION")]
    lifetime: Duration,
    #[command(flatten)]
    auth: AuthSettings,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let config = arguments.auth.config()?;
    if config.secret.is_none() {
        let reason = "--jwt-secret (JWT_SECRET, JWT_SECRET_FILE) is needed to sign a token";
        return Err(Failure::Usage(reason.into()));
    }
    let token =
        auth::sign(&config, &arguments.user, arguments.lifetime).context("cannot sign a token")?;
    writeln!(std::io::stdout(), "{token}").context("cannot print the token")?;
    Ok(())
}
