//! A NATS server with JetStream, likewise: for `notify-gateway dev --relay`.

use std::{
    env, fs, io,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use uuid::Uuid;

/// How long it may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// Waits for the end of its input, however that comes.
const KEEPER: &str = r#"
    "$0" -js -a 127.0.0.1 -p "$1" -sd "$2" >/dev/null 2>&1 &
    cat >/dev/null
    kill $! && wait $!
    rm -rf "$2"
"#;

/// A running server. Dropping it stops the server and removes its directory.
pub struct Nats {
    port: u16,
    process: Option<(Child, ChildStdin)>,
}

impl Nats {
    /// Starts one on a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// There is no `nats-server`, or it does not start.
    pub fn start() -> io::Result<Self> {
        let binary = find_binary().ok_or_else(|| {
            io::Error::other(
                "nats-server is not installed; install it with: sudo apt-get install nats-server \
                 (or scripts/ensure-nats)",
            )
        })?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let name = format!("notify-gateway-nats-{}", Uuid::new_v4().simple());
        let directory = env::temp_dir().join(name);
        fs::create_dir(&directory)?;
        let mut child = Command::new("sh")
            .args(["-c", KEEPER])
            .args([&binary, Path::new(&port.to_string()), &directory])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let input = child.stdin.take().ok_or_else(|| io::Error::other("no pipe to the keeper"))?;
        let nats = Self { port, process: Some((child, input)) };
        let began = Instant::now();
        while TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).is_err() {
            if began.elapsed() > START_TIMEOUT {
                return Err(io::Error::other("nats-server does not start"));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(nats)
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        if let Some((mut child, input)) = self.process.take() {
            drop(input);
            let _status = child.wait();
        }
    }
}

/// On the PATH, where Debian has it, or where `scripts/ensure-nats` builds it.
fn find_binary() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let others = ["/usr/sbin", "target/tools/bin"].map(PathBuf::from);
    let directories = env::split_paths(&path).chain(others);
    directories.map(|directory| directory.join("nats-server")).find(|file| file.exists())
}
