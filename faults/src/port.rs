//! Ports that stay ours while whoever listens on them is being restarted.

use std::{
    io,
    net::{Ipv4Addr, TcpListener},
};

/// A free port of 127.0.0.1 below those the kernel gives to outgoing
/// connections (32768 and up on Linux): one of ours that is free for a moment
/// must not become the near end of somebody's connection.
///
/// # Errors
///
/// No free port found.
pub(crate) fn free() -> io::Result<u16> {
    let listen = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(|_| port);
    (0..100)
        .find_map(|_| listen(fastrand::u16(15_000..32_000)).ok())
        .ok_or_else(|| io::Error::other("no free port"))
}
