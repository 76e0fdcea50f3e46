//! The subcommands, and what the process says when it ends.

mod apply;
mod check;
mod dev;
mod health;
mod schema;
mod serve;
mod token;
mod watch;

use std::{
    ffi::{OsStr, OsString},
    fmt::Display,
    io::Write as _,
    process::ExitCode,
};

use clap::{
    CommandFactory as _, FromArgMatches as _, Parser,
    error::{ContextKind, ContextValue, ErrorKind},
};
use notify_gateway::config::ConfigError;

/// Delivers the notifications your application writes to Postgres to the
/// browser, over Server-Sent Events.
#[derive(Debug, Parser)]
#[command(name = "notify-gateway", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Run the gateway (the default)
    Serve(Box<serve::Arguments>),
    /// Print, or run, the SQL that prepares the database
    Schema(schema::Arguments),
    /// Print, or run, the SQL that has a table watched
    Watch(Box<watch::Arguments>),
    /// Find out what is wrong between a row and the browser, and what mends it
    Check(Box<check::Arguments>),
    /// Ask a gateway on this machine whether it lives: for a container's health check
    Health(health::Arguments),
    /// Print a token, for trying the gateway out by hand
    Token(Box<token::Arguments>),
    /// Run all of it on this machine: a throwaway database, the gateway, a demo page
    Dev(dev::Arguments),
}

/// How a command can fail; the exit code follows from it.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// A setting is wrong: 2, as for a flag that does not parse.
    #[error(transparent)]
    Setting(#[from] ConfigError),
    /// Another setting, or a combination.
    #[error("{0}")]
    Usage(String),
    /// Everything else: 1.
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

/// Runs the command that the arguments name.
pub(crate) fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let parsed = command()
        .try_get_matches_from(with_default_command(arguments))
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) if is_help(&error) => {
            // Help goes to standard output; a closed pipe is no failure.
            let _printed = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => return fail(2, one_line(&error)),
    };
    let outcome = match cli.command {
        Command::Serve(arguments) => serve::run(*arguments),
        Command::Schema(arguments) => schema::run(&arguments),
        Command::Watch(arguments) => watch::run(&arguments),
        Command::Check(arguments) => match check::run(*arguments) {
            // What is wrong has been printed.
            Ok(false) => return ExitCode::FAILURE,
            outcome => outcome.map(drop),
        },
        Command::Health(arguments) => health::run(&arguments),
        Command::Token(arguments) => token::run(&arguments),
        Command::Dev(arguments) => dev::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure @ Failure::Other(_)) => fail(1, failure),
        Err(failure) => fail(2, failure),
    }
}

/// The command line, without the variables that are set to nothing: that is
/// what a compose file passes for those that are not set.
fn command() -> clap::Command {
    // Nothing is a value of these two: no proxy, no origin.
    const LISTS: [&str; 2] = ["trusted_proxies", "cors_origins"];
    Cli::command().mut_subcommands(|subcommand| {
        subcommand.mut_args(|argument| {
            let value = argument.get_env().and_then(std::env::var_os);
            let is_list = LISTS.contains(&argument.get_id().as_str());
            if !is_list && value.is_some_and(|value| value.is_empty()) {
                argument.env(None::<&str>)
            } else {
                argument
            }
        })
    })
}

/// One line, however many the cause has.
fn fail(code: u8, message: impl Display) -> ExitCode {
    let message = message.to_string();
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let _written = writeln!(std::io::stderr(), "notify-gateway: {message}");
    ExitCode::from(code)
}

/// `notify-gateway --bind …` is `notify-gateway serve --bind …`.
fn with_default_command(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.collect();
    let first = arguments.get(1).and_then(|argument| argument.to_str());
    let names_a_command = first.is_some_and(|first| {
        !first.starts_with('-') || ["-h", "--help", "-V", "--version"].contains(&first)
    });
    if !names_a_command {
        arguments.insert(arguments.len().min(1), OsStr::new("serve").to_owned());
    }
    arguments
}

fn is_help(error: &clap::Error) -> bool {
    matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion)
}

/// clap explains over several lines and names only the flag; in a service's log
/// one line that also names the environment variable is worth more.
fn one_line(error: &clap::Error) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let reason = std::error::Error::source(error).map(ToString::to_string);
    let argument = context(ContextKind::InvalidArg);
    if let (Some(argument), Some(value)) = (argument, context(ContextKind::InvalidValue)) {
        let reason = reason.unwrap_or_else(|| match error.get(ContextKind::ValidValue) {
            Some(ContextValue::Strings(valid)) if !valid.is_empty() => {
                format!("it is one of: {}", valid.join(", "))
            }
            _ => "a value is missing".to_owned(),
        });
        return format!("{}: {value:?} is not valid: {reason}", setting(argument));
    }
    let text = error.to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = first.trim_start_matches("error: ").split_whitespace().collect();
    format!("{} (see --help)", words.join(" "))
}

/// `--heartbeat <DURATION>` → `--heartbeat (GATEWAY_HEARTBEAT)`.
fn setting(argument: &str) -> String {
    let flag = argument.split_whitespace().next().unwrap_or(argument);
    let cli = Cli::command();
    let environment = cli
        .get_subcommands()
        .flat_map(clap::Command::get_arguments)
        .find(|known| known.get_long() == Some(flag.trim_start_matches('-')))
        .and_then(clap::Arg::get_env)
        .and_then(OsStr::to_str);
    match environment {
        Some(environment) => format!("{flag} ({environment})"),
        None => flag.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(arguments: &[&str]) -> String {
        let arguments = ["notify-gateway"].iter().chain(arguments).map(OsString::from);
        one_line(&Cli::try_parse_from(with_default_command(arguments)).unwrap_err())
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_wrong_value_is_one_line_that_names_flag_and_variable() {
        for (arguments, parts) in [
            (&["--heartbeat", "soon"][..], ["--heartbeat (GATEWAY_HEARTBEAT)", "such as 500ms"]),
            (&["serve", "--bind", "here"], ["--bind (GATEWAY_BIND)", "\"here\""]),
            (&["--log-format", "xml"], ["--log-format (GATEWAY_LOG_FORMAT)", "text, json"]),
            (&["--enable-sse-notifications=x"], ["ENABLE_SSE_NOTIFICATIONS", "\"x\""]),
            (&["--nonsense"], ["--nonsense", "--help"]),
            (&["token"], ["--help", "--user"]),
        ] {
            let error = error(arguments);
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
