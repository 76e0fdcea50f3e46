//! A server that is not ours, told of its rows over HTTP: when it is sound the
//! load test is content, and when it is not the load test says what is wrong.

#![allow(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it; clippy.toml covers test functions only"
)]

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Command, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

/// What is wrong with the server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// It drops every tenth event and sends one twice.
    DropsAndDoubles,
    /// It sends one event to everybody.
    Misroutes,
}

struct Server {
    fault: Fault,
    published: AtomicUsize,
    streams: Mutex<HashMap<String, Vec<TcpStream>>>,
}

impl Server {
    /// Serves until the test's process ends.
    fn start(fault: Fault) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (published, streams) = (AtomicUsize::new(0), Mutex::default());
        let server = Arc::new(Self { fault, published, streams });
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let (server, socket) = (server.clone(), socket.unwrap());
                std::thread::spawn(move || server.converse(socket));
            }
        });
        port
    }

    fn converse(&self, mut socket: TcpStream) {
        let mut reader = BufReader::new(socket.try_clone().unwrap());
        while let Some((target, length)) = head(&mut reader) {
            let (kind, user) = target[1..].split_once('/').unwrap();
            if kind == "sub" {
                let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
                socket.write_all(head.as_bytes()).unwrap();
                send(&mut socket, "connected", "{}");
                self.streams.lock().unwrap().entry(user.to_owned()).or_default().push(socket);
                return;
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            self.publish(user, std::str::from_utf8(&body).unwrap());
            socket.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n").unwrap();
        }
    }

    fn publish(&self, user: &str, data: &str) {
        let number = self.published.fetch_add(1, Ordering::Relaxed) + 1;
        let copies = match self.fault {
            Fault::DropsAndDoubles if number.is_multiple_of(10) => 0,
            Fault::DropsAndDoubles if number == 15 => 2,
            _ => 1,
        };
        let is_for_all = self.fault == Fault::Misroutes && number == 15;
        for (name, streams) in self.streams.lock().unwrap().iter_mut() {
            for stream in streams.iter_mut().filter(|_| is_for_all || name == user) {
                (0..copies).for_each(|_| send(stream, "notification", data));
            }
        }
    }
}

/// The request's target, and the length of its body.
fn head(reader: &mut impl std::io::BufRead) -> Option<(String, usize)> {
    let lines: Vec<String> =
        reader.lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let target = lines.first()?.split(' ').nth(1)?.to_owned();
    let length = lines.iter().find_map(|line| line.strip_prefix("Content-Length: "));
    Some((target, length.map_or(0, |length| length.parse().unwrap())))
}

fn send(socket: &mut TcpStream, event: &str, data: &str) {
    let event = format!("event: {event}\ndata: {data}\n\n");
    // A stream that is gone at the end of the run is no fault.
    let _sent = write!(socket, "{:x}\r\n{event}\r\n", event.len());
}

fn loadtest(fault: Fault) -> (Output, String) {
    let port = Server::start(fault);
    let output = Command::new(env!("CARGO_BIN_EXE_notify-loadtest"))
        .args(["steady", "-n", "20", "--rate", "100", "--duration", "1s", "--no-limits"])
        .args(["--settle", if fault == Fault::None { "60s" } else { "2s" }])
        .args(["--url", &format!("http://127.0.0.1:{port}/sub/{{user}}"), "--writer", "http"])
        .args(["--publish-url", &format!("http://127.0.0.1:{port}/pub/{{user}}")])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    (output, said)
}

#[test]
fn a_sound_server_of_any_make_passes() {
    let (output, said) = loadtest(Fault::None);
    assert!(output.status.success(), "{said}");
}

#[test]
fn a_server_that_drops_and_doubles_events_fails_and_is_told_so() {
    let (output, said) = loadtest(Fault::DropsAndDoubles);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("MISSED steady: rows lost: 10 "), "{said}");
    assert!(said.contains("MISSED steady: rows doubled: 1 "), "{said}");
    assert!(said.contains("never came") && said.contains("came again"), "{said}");
}

#[test]
fn a_server_that_shows_a_row_to_others_fails_and_is_told_so() {
    let (output, said) = loadtest(Fault::Misroutes);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("MISSED steady: rows misrouted: 19 "), "{said}");
    assert!(!said.contains("rows lost"), "{said}");
}

#[test]
fn a_server_that_is_not_there_is_said_to_be_so() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let output = Command::new(env!("CARGO_BIN_EXE_notify-loadtest"))
        .args([
            "rush",
            "-n",
            "1",
            "--url",
            &format!("http://127.0.0.1:{port}/"),
            "--open-within",
            "1s",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("no stream has opened: connection refused"), "{said}");
}
