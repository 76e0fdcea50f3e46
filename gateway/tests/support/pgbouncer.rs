//! A PgBouncer in front of a server of the tests.

use std::{
    fs,
    net::TcpListener,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use nix::unistd::{Uid, User};
use tempfile::TempDir;

use super::eventually;

/// Does not outlive its test.
pub(crate) struct PgBouncer {
    child: Child,
    port: u16,
    _directory: TempDir,
}

impl PgBouncer {
    /// A pooler in `mode` (`transaction`, `session`) before the server of `url`,
    /// with at most `size` connections to it for each role. `None`, loudly, where
    /// PgBouncer is not installed.
    pub(crate) async fn start(url: &str, mode: &str, size: usize) -> Option<Self> {
        let binary = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"]
            .into_iter()
            .find(|path| Path::new(path).exists());
        let Some(binary) = binary else {
            assert!(std::env::var_os("CI").is_none(), "PgBouncer is not installed");
            println!("SKIPPED: PgBouncer is not installed (make deps)");
            return None;
        };
        let (_, server) = url.rsplit_once('@').unwrap();
        let (host_and_port, _) = server.split_once('/').unwrap();
        let server_port = host_and_port.rsplit_once(':').unwrap().1;
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let directory = TempDir::new().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("users"), "\"bell\" \"bell\"\n").unwrap();
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={server_port}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = plain\nauth_file = {}\npool_mode = {mode}\ndefault_pool_size = {size}\n\
             logfile = {}\n",
            path("users").display(),
            path("log").display(),
        );
        fs::write(path("ini"), settings).unwrap();
        let mut command = Command::new(binary);
        command.arg("--quiet").arg(path("ini")).stdout(Stdio::null()).stderr(Stdio::null());
        // It refuses to run as root.
        if Uid::effective().is_root() {
            let account = User::from_name("nobody").unwrap().unwrap();
            fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
            command.uid(account.uid.as_raw()).gid(account.gid.as_raw());
        }
        let child = command.spawn().unwrap();
        let pooler = Self { child, port, _directory: directory };
        let own_url = pooler.url(url);
        eventually("the pooler answers", async || {
            tokio_postgres::connect(&own_url, tokio_postgres::NoTls).await.is_ok()
        })
        .await;
        Some(pooler)
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The URL through the pooler.
    pub(crate) fn url(&self, url: &str) -> String {
        let (before, after) = url.rsplit_once('@').unwrap();
        let (_, database) = after.split_once('/').unwrap();
        format!("{before}@127.0.0.1:{}/{database}", self.port)
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}
