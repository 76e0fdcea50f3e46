//! A real Chromium, on a page of the test's own.

use std::{
    env,
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use nix::unistd::Uid;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::AbortHandle,
};

use super::PATIENCE;

/// The web server of a page whose script says what it found by `report(…)`.
pub(crate) struct Page {
    address: SocketAddr,
    reports: mpsc::Receiver<Value>,
    serving: AbortHandle,
}

impl Page {
    /// A page with this script, and a cookie if it is to have one.
    pub(crate) async fn serve(script: &str, cookie: Option<&str>) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), script, cookie)
    }

    /// The same on a port whose number had to be known before.
    pub(crate) fn on(listener: TcpListener, script: &str, cookie: Option<&str>) -> Self {
        let html = format!(
            "<!doctype html><script>
             let reported = Promise.resolve();
             // One after the other: two events may come in one packet.
             const report = (found) => {{
               reported = reported.then(() =>
                 fetch('/report', {{ method: 'POST', body: JSON.stringify(found) }}));
             }};
             {script}
             </script>"
        );
        let cookie = cookie.map(|cookie| format!("set-cookie: {cookie}\r\n")).unwrap_or_default();
        let page = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n{cookie}content-length: {}\r\n\
             connection: close\r\n\r\n{html}",
            html.len()
        );
        let address = listener.local_addr().unwrap();
        let (found, reports) = mpsc::channel(16);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (page, found) = (page.clone(), found.clone());
                tokio::spawn(async move { answer(stream, &page, &found).await });
            }
        });
        Self { address, reports, serving: serving.abort_handle() }
    }

    /// Where it is served.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// As browsers write it.
    pub(crate) fn origin(&self) -> String {
        format!("http://localhost:{}", self.address.port())
    }

    /// What the script reports next.
    pub(crate) async fn reported(&mut self) -> Value {
        tokio::time::timeout(PATIENCE * 2, self.reports.recv()).await.expect("a report").unwrap()
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(stream: TcpStream, page: &str, found: &mpsc::Sender<Value>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    stream.read_line(&mut first).await.ok()?;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    if first.starts_with("POST /report ") {
        found.send(serde_json::from_slice(&body).ok()?).await.ok()?;
        stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await.ok()
    } else if first.starts_with("GET / ") {
        stream.write_all(page.as_bytes()).await.ok()
    } else {
        let none = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        stream.write_all(none).await.ok()
    }
}

/// A browser that looks at one page until it is dropped.
pub(crate) struct Browser {
    process: Child,
    _profile: TempDir,
}

impl Browser {
    /// None where there is no Chromium, which is said loudly; an error where
    /// `REQUIRE_CHROMIUM` or `CI` is set.
    pub(crate) fn open(page: &Page) -> Option<Self> {
        Self::open_at(&page.origin())
    }

    /// The same for a page that is reached in another way.
    pub(crate) fn open_at(url: &str) -> Option<Self> {
        let Some(chromium) = find() else {
            let missing = "SKIPPED: no Chromium (Debian: apt-get install chromium)";
            assert!(
                env::var_os("REQUIRE_CHROMIUM").is_none() && env::var_os("CI").is_none(),
                "{missing}"
            );
            println!("{missing}");
            return None;
        };
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new(chromium);
        command.args([
            "--headless",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--remote-debugging-port=0",
        ]);
        // Chromium's sandbox refuses to run as root.
        if Uid::effective().is_root() {
            command.arg("--no-sandbox");
        }
        command.arg(format!("--user-data-dir={}", profile.path().display())).arg(url);
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Some(Self { process, _profile: profile })
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _status = self.process.wait();
    }
}

fn find() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    env::split_paths(&path)
        .flat_map(|directory| names.map(|name| directory.join(name)))
        .find(|candidate| candidate.exists())
}
