//! A NATS server of the tests.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use super::eventually;

/// Does not outlive its test.
pub(crate) struct Nats {
    binary: &'static str,
    child: Child,
    port: u16,
    directory: TempDir,
}

impl Nats {
    /// The servers that are installed: Debian's, the newest, or both. An empty list, and a line
    /// that says so, where neither is.
    pub(crate) fn binaries() -> Vec<&'static str> {
        const NEWEST: &str =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tools/bin/nats-server");
        let binaries = [NEWEST, "/usr/sbin/nats-server", "/usr/local/bin/nats-server"];
        let binaries: Vec<_> = binaries.into_iter().filter(|it| Path::new(it).exists()).collect();
        if binaries.is_empty() {
            assert!(std::env::var_os("CI").is_none(), "NATS is not installed");
            println!("SKIPPED: NATS is not installed (make deps)");
        }
        binaries
    }

    /// A server, with these lines in its configuration beside its own.
    pub(crate) async fn start(binary: &'static str, settings: &str) -> Self {
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let directory = TempDir::new().unwrap();
        let store = directory.path().join("store");
        let text =
            format!("listen: 127.0.0.1:{port}\njetstream {{ store_dir: {store:?} }}\n{settings}\n");
        fs::write(directory.path().join("conf"), text).unwrap();
        let child = spawn(binary, &directory);
        let server = Self { binary, child, port, directory };
        server.answers().await;
        server
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// As `kill -9`; what it had in memory is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on the same port.
    pub(crate) async fn restart(&mut self) {
        self.child = spawn(self.binary, &self.directory);
        self.answers().await;
    }

    /// It does nothing any more, and its connections stay.
    pub(crate) fn stop(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// It goes on.
    pub(crate) fn go_on(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    async fn answers(&self) {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        eventually("NATS answers", async || TcpStream::connect(address).is_ok()).await;
    }
}

fn spawn(binary: &str, directory: &TempDir) -> Child {
    let mut command = Command::new(binary);
    command.arg("-c").arg(directory.path().join("conf"));
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

impl Drop for Nats {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}
