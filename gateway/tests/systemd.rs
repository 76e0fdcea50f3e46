//! What a service manager gives and is told, as systemd does it.

use std::{
    net::{SocketAddr, TcpListener},
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    process::{Command, Stdio},
    time::Instant,
};

use nix::sys::signal::Signal;
use notify_gateway::http::STREAM_PATH;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use uuid::Uuid;

use crate::support::{Database, EventSource, PATIENCE, Process, token};

/// Reads what the gateway tells until there has been a line for each of `beginnings`; all of it.
fn told(socket: &UnixDatagram, beginnings: &[&str]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut bytes = [0; 4096];
    let begun = Instant::now();
    let is_told =
        |lines: &[String], beginning: &&str| lines.iter().any(|line| line.starts_with(*beginning));
    while !beginnings.iter().all(|beginning| is_told(&lines, beginning)) {
        assert!(begun.elapsed() < PATIENCE, "{beginnings:?} do not all come: {lines:?}");
        let read = socket.recv(&mut bytes).unwrap_or_else(|e| panic!("{e}: {lines:?}"));
        let message = String::from_utf8(bytes[..read].to_vec()).unwrap();
        lines.extend(message.lines().map(str::to_owned));
    }
    lines
}

/// The socket of `NOTIFY_SOCKET`, with the directory that it is in.
fn notify_socket() -> (UnixDatagram, TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    (socket, directory, path.to_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_is_told_that_it_is_ready_that_it_lives_and_that_it_stops() {
    let database = Database::new().await;
    let (socket, _directory, name) = notify_socket();
    let environment = [("NOTIFY_SOCKET", name.as_str()), ("WATCHDOG_USEC", "200000")];
    let mut process = Process::start_with(&database.url, &["--drain", "2s"], &environment).await;
    told(&socket, &["READY=1", "STATUS=well"]);
    // Twice in that time, and as long as it lives.
    for _ in 0..3 {
        told(&socket, &["WATCHDOG=1"]);
    }
    process.signal(Signal::SIGTERM);
    // The drain and ten seconds.
    told(&socket, &["STOPPING=1", "EXTEND_TIMEOUT_USEC=12000000"]);
    assert_eq!(process.ended().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_away_systemd_is_asked_for_more_time_and_told_why() {
    let (socket, _directory, name) = notify_socket();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_notify-gateway"));
    let nowhere = "postgres://bell@127.0.0.1:1/app";
    command
        .args(["--database-url", nowhere, "--jwt-secret", crate::support::SECRET])
        .args(["--bind", "127.0.0.1:0", "--admin-bind", "127.0.0.1:0"])
        .env("NOTIFY_SOCKET", &name)
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let _process = command.spawn().unwrap();
    let lines = tokio::task::spawn_blocking(move || {
        told(&socket, &["STATUS=not listening: ", "EXTEND_TIMEOUT_USEC=30000000", "WATCHDOG=1"])
    });
    let lines = lines.await.unwrap();
    assert!(lines.iter().all(|line| !line.starts_with("READY")), "{lines:?}");
}

/// `notify-gateway` with these sockets as the descriptors 3 and 4, as a socket unit gives them.
fn activated(public: &TcpListener, admin: &TcpListener) -> Command {
    let given = |listener: &TcpListener| Stdio::from(OwnedFd::from(listener.try_clone().unwrap()));
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(r#"LISTEN_PID=$$ LISTEN_FDS=2 exec "$0" "$@" 3<&0 4<&1 </dev/null >/dev/null"#);
    command.arg(env!("CARGO_BIN_EXE_notify-gateway")).stdin(given(public)).stdout(given(admin));
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_sockets_of_a_socket_unit_no_connection_is_refused_over_a_restart() {
    let database = Database::new().await;
    let (public, admin) = (listener(), listener());
    let (address, user) = (public.local_addr().unwrap(), Uuid::new_v4());
    let start = async || {
        let command = activated(&public, &admin);
        let process = Process::start_command(command, &database.url, &["--drain", "1s"]).await;
        assert_eq!((process.address, process.admin), (address, admin.local_addr().unwrap()));
        process
    };
    let mut first = start().await;
    let mut stream = EventSource::open(address, user).await;
    let cursor = stream.next().await.id.unwrap();
    first.signal(Signal::SIGTERM);
    assert_eq!(stream.next().await.name, "closing");
    drop(stream);
    assert_eq!(first.ended().await.code(), Some(0));

    // Nobody is there, and nobody is refused.
    let mut waiting = TcpStream::connect(address).await.unwrap();
    let ask = format!(
        "GET {STREAM_PATH} HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {}\r\n\
         Last-Event-ID: {cursor}\r\n\r\n",
        token(user)
    );
    waiting.write_all(ask.as_bytes()).await.unwrap();
    database.insert(user, "meanwhile").await;
    let _second = start().await;
    let mut answer = String::new();
    let reading = async {
        let mut bytes = [0; 4096];
        while !answer.contains("meanwhile") {
            let read = waiting.read(&mut bytes).await.unwrap();
            assert_ne!(read, 0, "{answer}");
            answer += &String::from_utf8_lossy(&bytes[..read]);
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_is_none_for_streams_is_told_in_one_line() {
    let (datagrams, ..) = notify_socket();
    let mut command = Command::new("sh");
    command.arg("-c").arg(r#"LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@" 3<&0"#);
    command.arg(env!("CARGO_BIN_EXE_notify-gateway")).stdin(Stdio::from(OwnedFd::from(datagrams)));
    command.args(["--database-url", "postgres://bell@127.0.0.1:1/app"]);
    command.args(["--jwt-secret", crate::support::SECRET]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.lines().last().unwrap().contains("the sockets of the service manager"), "{said}");
}

fn listener() -> TcpListener {
    TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap()
}
