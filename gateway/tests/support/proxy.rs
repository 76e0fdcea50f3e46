//! A real proxy of each kind, with the lines of `docs/proxies.md`.

use std::{
    env, fs,
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::net::TcpStream;

use super::{
    Nginx, guide,
    nginx::{find, free_address},
};

const PAGE: &str = "proxies.md";

#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Nginx,
    Caddy,
    HaProxy,
}

/// A proxy before a gateway and a page, which are one origin by it.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    _running: Running,
}

#[expect(dead_code, reason = "what is in it is there to be dropped")]
enum Running {
    Nginx(Nginx),
    Own(Own),
}

struct Own {
    process: Child,
    _directory: TempDir,
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _status = self.process.wait();
    }
}

impl Proxy {
    /// None where it is not installed, which is said loudly; an error where `CI` is set.
    pub(crate) async fn start(kind: Kind, gateway: SocketAddr, page: SocketAddr) -> Option<Self> {
        let name = match kind {
            // Its lines in the README are the same: a test compares them.
            Kind::Nginx => {
                let nginx = Nginx::start(gateway, page).await?;
                return Some(Self { address: nginx.address, _running: Running::Nginx(nginx) });
            }
            Kind::Caddy => "caddy",
            Kind::HaProxy => "haproxy",
        };
        let Some(program) = find(name) else {
            let missing = format!("SKIPPED: no {name} (Debian: apt-get install {name})");
            assert!(env::var_os("CI").is_none(), "{missing}");
            println!("{missing}");
            return None;
        };
        let address = free_address().await;
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().to_str().unwrap();
        let config = match kind {
            Kind::Caddy => caddyfile(address),
            _ => haproxy(address, place),
        };
        let config = replace(&config, "127.0.0.1:8080", &gateway.to_string());
        let config = replace(&config, "127.0.0.1:8000", &page.to_string());
        fs::write(directory.path().join("config"), config).unwrap();
        let mut command = Command::new(program);
        match kind {
            Kind::Caddy => command.args(["run", "--adapter", "caddyfile", "--config", "config"]),
            _ => command.args(["-db", "-f", "config"]),
        };
        command.current_dir(place).env("XDG_CONFIG_HOME", place).env("XDG_DATA_HOME", place);
        let log = directory.path().join("log");
        command.stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap());
        let mut own = Own { process: command.spawn().unwrap(), _directory: directory };
        while TcpStream::connect(address).await.is_err() {
            let ended = own.process.try_wait().unwrap();
            assert!(ended.is_none(), "{name}: {}", fs::read_to_string(&log).unwrap());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Some(Self { address, _running: Running::Own(own) })
    }
}

/// Without a certificate, and with nothing outside of its directory.
fn caddyfile(address: SocketAddr) -> String {
    let page = guide::file_of(PAGE, "/etc/caddy/Caddyfile");
    let site = replace(&page, "app.example.com {", &format!("http://:{} {{", address.port()));
    format!("{{\n\tadmin off\n\tdefault_bind 127.0.0.1\n}}\n{site}")
}

fn haproxy(address: SocketAddr, place: &str) -> String {
    let errors = "/etc/haproxy/errors/";
    let away = guide::file_of(PAGE, "/etc/haproxy/errors/bell-away.http");
    fs::write(PathBuf::from(place).join("bell-away.http"), away).unwrap();
    let page = guide::file_of(PAGE, "/etc/haproxy/haproxy.cfg");
    let page = replace(&page, "bind :80\n", &format!("bind {address}\n"));
    replace(&page, errors, &format!("{place}/"))
}

fn replace(config: &str, example: &str, own: &str) -> String {
    assert!(config.contains(example), "{PAGE} has no {example:?} any more");
    config.replace(example, own)
}
