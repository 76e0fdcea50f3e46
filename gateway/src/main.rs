//! notify-gateway: see the library, and `notify-gateway --help`.

mod command;

use std::process::ExitCode;

fn main() -> ExitCode {
    command::run(std::env::args_os())
}
