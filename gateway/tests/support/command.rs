//! A command of the binary, to its end.

use assert_cmd::Command;

/// The exit code and what is on standard error.
pub(crate) fn command(arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_notify-gateway"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("GATEWAY_") || name.starts_with("JWT_") || name.contains("DATABASE_URL")
        {
            command.env_remove(name);
        }
    }
    let output =
        command.args(arguments).timeout(std::time::Duration::from_secs(30)).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    (output.status.code().expect("an exit code"), stderr)
}
