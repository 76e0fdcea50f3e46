//! The binary itself, as an operator starts it.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{PATIENCE, SECRET, discretion, eventually, request};

/// A process that does not outlive its test.
pub(crate) struct Process {
    child: Child,
    log: Arc<Mutex<String>>,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Process {
    /// `notify-gateway serve`, on free ports, ready. Without a `--jwt-…` flag it
    /// knows the tests' secret.
    pub(crate) async fn start(database_url: &str, flags: &[&str]) -> Self {
        let command = Command::new(env!("CARGO_BIN_EXE_notify-gateway"));
        Self::start_command(command, database_url, flags).await
    }

    /// The same in this environment.
    pub(crate) async fn start_with(
        database_url: &str,
        flags: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_notify-gateway"));
        command.envs(environment.iter().copied());
        Self::start_command(command, database_url, flags).await
    }

    /// The same with a limit on open files.
    pub(crate) async fn start_with_files(files: u32, database_url: &str, flags: &[&str]) -> Self {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("ulimit -n {files} && exec \"$0\" \"$@\""));
        command.arg(env!("CARGO_BIN_EXE_notify-gateway"));
        Self::start_command(command, database_url, flags).await
    }

    /// The same by this command, whose last word so far is the binary.
    pub(crate) async fn start_command(
        mut command: Command,
        database_url: &str,
        flags: &[&str],
    ) -> Self {
        command.args(["--database-url", database_url, "--log-format", "json"]);
        if !flags.contains(&"--bind") {
            command.args(["--bind", "127.0.0.1:0"]);
        }
        command.args(["--admin-bind", "127.0.0.1:0"]).args(flags);
        if !flags.iter().any(|flag| flag.starts_with("--jwt-")) {
            command.args(["--jwt-secret", SECRET]);
        }
        if command.get_envs().all(|(name, _)| name != "RUST_LOG") {
            command.env("RUST_LOG", discretion::DIRECTIVES);
        }
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(String::new()));
        let started = loop {
            let line = lines.next().expect("a line that says where it is").unwrap();
            discretion::read(&line);
            let json: serde_json::Value = serde_json::from_str(&line).expect(&line);
            *log.lock().unwrap() += &(line + "\n");
            if json["address"].is_string() {
                break json;
            }
        };
        let rest = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                discretion::read(&line);
                *rest.lock().unwrap() += &(line + "\n");
            }
        });
        let port = |name: &str| started[name].as_str().unwrap().parse().unwrap();
        let (address, admin) = (port("address"), port("admin"));
        let process = Self { child, log, address, admin };
        eventually("the process is ready", async || {
            request(process.admin, "GET", "/readyz?strict", &[]).await.status == 200
        })
        .await;
        process
    }

    /// The value of one line of `/metrics`.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        super::metric(self.admin, name).await
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let waiting = async {
            loop {
                match self.child.try_wait().unwrap() {
                    Some(status) => return status,
                    None => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("its end")
    }

    /// All it has said.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended by itself where the test has passed.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}
