//! One connection of a stream: the request on its way out, the answer on its
//! way in.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, SocketAddr},
};

use mio::{Interest, Registry, Token, net::TcpStream};
use socket2::{Domain, Protocol, Socket, Type};

use crate::wire::Response;

/// The receive buffer of a stream that does not read: small, so that the server
/// feels it soon. The kernel doubles it.
const NARROW_BYTES: usize = 4096;

pub(super) struct Connection {
    pub(super) socket: TcpStream,
    pub(super) begun_ns: u64,
    pub(super) response: Response,
    pub(super) first_byte_ns: Option<u64>,
    pub(super) is_open: bool,
    request: Vec<u8>,
    written: usize,
}

impl Connection {
    pub(super) fn begin(socket: TcpStream, begun_ns: u64, request: Vec<u8>, cursor: &[u8]) -> Self {
        Self {
            socket,
            begun_ns,
            response: Response::resuming(cursor),
            first_byte_ns: None,
            is_open: false,
            request,
            written: 0,
        }
    }

    /// Sends what is left of the request.
    pub(super) fn write(&mut self) -> io::Result<()> {
        while self.written < self.request.len() {
            match self.socket.write(&self.request[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // The socket is not connected yet, or the connect has failed.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                    return self.socket.take_error()?.map_or(Ok(()), Err);
                }
                Err(error) => return Err(error),
            }
        }
        self.request = Vec::new();
        self.written = 0;
        Ok(())
    }

    /// Has the socket's readiness told once more.
    pub(super) fn rearm(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.reregister(&mut self.socket, token, Interest::READABLE | Interest::WRITABLE)
    }

    /// One read; none when there is nothing to read.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            match self.socket.read(buffer) {
                Ok(count) => return Ok(Some(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Begins a connect; its outcome comes as a writable event.
pub(super) fn connect(
    address: SocketAddr,
    source: Option<IpAddr>,
    reads: bool,
    registry: &Registry,
    token: Token,
) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if !reads {
        socket.set_recv_buffer_size(NARROW_BYTES)?;
    }
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(nix::Error::EINPROGRESS as i32) => {}
        Err(error) => return Err(error),
    }
    let mut socket = TcpStream::from_std(socket.into());
    registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
    Ok(socket)
}
