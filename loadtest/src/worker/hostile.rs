//! Connections that mean no good: some send random bytes, some drip a head so
//! slowly that it never ends. Bounded in number and in time.

use std::{
    io::{self, Read as _, Write as _},
    net::SocketAddr,
};

use mio::{Registry, Token, net::TcpStream};

use super::connection;
use crate::clock::now_ns;

/// Between two drops of a slow head.
const DRIP_NS: u64 = 200_000_000;

/// How many random bytes one connection sends at most.
const RANDOM_BYTES: usize = 64 * 1024;

/// How much is sent at once.
const PIECE_BYTES: usize = 1024;

const SLOW_HEAD: &[u8] = b"GET /api/notifications/stream HTTP/1.1\r\nHost: slow\r\nX-Slow: ";

pub(super) struct Hostile {
    registry: Registry,
    address: SocketAddr,
    first_token: usize,
    attackers: Vec<Attacker>,
    until_ns: u64,
    next_drip_ns: u64,
    rng: fastrand::Rng,
}

struct Attacker {
    kind: Kind,
    socket: Option<TcpStream>,
    sent: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Random,
    SlowHead,
}

impl Hostile {
    pub(super) fn new(registry: Registry, address: SocketAddr, first_token: usize) -> Self {
        Self {
            registry,
            address,
            first_token,
            attackers: Vec::new(),
            until_ns: 0,
            next_drip_ns: u64::MAX,
            rng: fastrand::Rng::new(),
        }
    }

    pub(super) fn begin(&mut self, random: usize, slow_heads: usize, until_ns: u64) {
        let kinds = [(Kind::Random, random), (Kind::SlowHead, slow_heads)];
        let kinds = kinds.into_iter().flat_map(|(kind, count)| std::iter::repeat_n(kind, count));
        self.attackers = kinds.map(|kind| Attacker { kind, socket: None, sent: 0 }).collect();
        self.until_ns = until_ns;
        self.next_drip_ns = now_ns();
    }

    /// When it wants its next turn.
    pub(super) fn next_ns(&self) -> u64 {
        self.next_drip_ns
    }

    /// The socket of one is ready: it reads what it is told and goes on.
    pub(super) fn turn(&mut self, index: usize) {
        let Some(attacker) = self.attackers.get_mut(index) else { return };
        let mut buffer = [0; 1024];
        let is_over = attacker.socket.as_mut().is_some_and(|socket| {
            loop {
                match socket.read(&mut buffer) {
                    Ok(0) => break true,
                    Ok(_) => {}
                    Err(error) => break error.kind() != io::ErrorKind::WouldBlock,
                }
            }
        });
        if is_over {
            // It comes back with the next drop.
            attacker.socket = None;
        }
    }

    /// All of them, when it is time: opens what is closed, and sends.
    pub(super) fn turn_all(&mut self) {
        let now = now_ns();
        if now < self.next_drip_ns {
            return;
        }
        if now >= self.until_ns {
            self.attackers.clear();
            self.next_drip_ns = u64::MAX;
            return;
        }
        self.next_drip_ns = now + DRIP_NS;
        for (index, attacker) in self.attackers.iter_mut().enumerate() {
            if attacker.socket.is_none() {
                let token = Token(self.first_token + index);
                attacker.sent = 0;
                attacker.socket =
                    connection::connect(self.address, None, true, &self.registry, token).ok();
            } else if attacker.send(&mut self.rng).is_err() {
                attacker.socket = None;
            }
        }
    }
}

impl Attacker {
    fn send(&mut self, rng: &mut fastrand::Rng) -> io::Result<()> {
        let Some(socket) = &mut self.socket else { return Ok(()) };
        let sent = match self.kind {
            Kind::Random if self.sent >= RANDOM_BYTES => Err(io::ErrorKind::Other.into()),
            Kind::Random => {
                let bytes: Vec<u8> =
                    std::iter::repeat_with(|| rng.u8(..)).take(PIECE_BYTES).collect();
                socket.write(&bytes)
            }
            Kind::SlowHead => {
                let byte = SLOW_HEAD.get(self.sent).copied().unwrap_or(b'x');
                socket.write(&[byte])
            }
        };
        match sent {
            Ok(count) => self.sent += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
