//! A real nginx, with the README's own lines.

use std::{
    env, fs,
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};

use super::eventually;

const README: &str = include_str!("../../../README.md");

/// A proxy before a gateway and a page, which are one origin by it.
pub(crate) struct Nginx {
    process: Child,
    directory: TempDir,
    pub(crate) address: SocketAddr,
}

impl Nginx {
    /// None where there is no nginx, which is said loudly; an error where
    /// `REQUIRE_NGINX` or `CI` is set.
    pub(crate) async fn start(gateway: SocketAddr, page: SocketAddr) -> Option<Self> {
        Self::start_but(gateway, page, str::to_owned).await
    }

    /// The same, with other lines than the README's.
    pub(crate) async fn start_but(
        gateway: SocketAddr,
        page: SocketAddr,
        change: impl Fn(&str) -> String,
    ) -> Option<Self> {
        let Some(nginx) = find("nginx") else {
            let missing = "SKIPPED: no nginx (Debian: apt-get install nginx-light)";
            let is_required =
                ["REQUIRE_NGINX", "CI"].iter().any(|name| env::var_os(name).is_some());
            assert!(!is_required, "{missing}");
            println!("{missing}");
            return None;
        };
        let address = free_address().await;
        let directory = tempfile::tempdir().unwrap();
        let config = change(&config(address, gateway, page));
        fs::write(directory.path().join("nginx.conf"), config).unwrap();
        let mut command = Command::new(nginx);
        command.arg("-p").arg(directory.path()).args(["-c", "nginx.conf", "-e", "error.log"]);
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let started = Self { process, directory, address };
        eventually("nginx listens", async || TcpStream::connect(address).await.is_ok()).await;
        Some(started)
    }

    /// How often nginx has answered a stream in the gateway's place.
    pub(crate) fn stood_in(&self) -> usize {
        let log = fs::read_to_string(self.directory.path().join("access.log")).unwrap_or_default();
        log.lines().filter(|line| *line == "text/event-stream 200 502").count()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _status = self.process.wait();
    }
}

/// As the README has it, with these addresses; in one process, with all its
/// files in its own directory, so that any user can run it.
fn config(address: SocketAddr, gateway: SocketAddr, page: SocketAddr) -> String {
    let lines = README.split_once("```nginx\n").unwrap().1.split_once("```").unwrap().0;
    assert!(lines.contains("http://127.0.0.1:8080;"));
    let lines = lines.replace("http://127.0.0.1:8080;", &format!("http://{gateway};"));
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {name};\n"))
        .concat();
    format!(
        "daemon off; master_process off; pid nginx.pid; error_log error.log;
         events {{}}
         http {{
           {temporary}
           log_format seen '$sent_http_content_type $status $upstream_status';
           access_log access.log seen;
           server {{
             listen {address};
             {lines}
             location / {{ proxy_pass http://{page}; }}
           }}
         }}"
    )
}

/// A server program, which need not be on the PATH of an ordinary user.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin"].map(PathBuf::from);
    let candidates = env::split_paths(&path).chain(usual).map(|directory| directory.join(name));
    candidates.into_iter().find(|candidate| candidate.exists())
}

/// An address that was free a moment ago.
pub(super) async fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}
