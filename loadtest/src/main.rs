//! notify-loadtest: opens many streams against a deployment and measures what
//! arrives. Not built yet: this is the place where it will be.

use std::{io::Write as _, process::ExitCode};

fn main() -> ExitCode {
    let message = "notify-loadtest: this version cannot measure anything yet";
    let _written = writeln!(std::io::stderr(), "{message}");
    ExitCode::FAILURE
}
