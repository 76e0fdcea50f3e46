//! `notify-gateway health`.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, anyhow};

use super::Failure;

/// An answer takes milliseconds; who asks usually gives up after some seconds.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The operator's address of the gateway that is asked
    #[arg(long, env = "GATEWAY_ADMIN_BIND", default_value = "127.0.0.1:8081", value_name = "ADDR")]
    admin_bind: SocketAddr,
}

/// Fails where `/healthz` says anything but 200.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let address = reachable(arguments.admin_bind);
    let status = ask(address).with_context(|| format!("{address} does not answer"))?;
    if status.split(' ').nth(1) == Some("200") {
        return Ok(());
    }
    Err(anyhow!("{address}/healthz says {status}").into())
}

/// The first line of the answer.
fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut connection = TcpStream::connect_timeout(&address, PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.write_all(
        format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut head = [0; 64];
    let read = connection.read(&mut head)?;
    let head = String::from_utf8_lossy(&head[..read]);
    Ok(head.lines().next().unwrap_or_default().to_owned())
}

/// All addresses of a machine are no address to ask.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_are_asked_at_this_machines_own() {
        let asked = |address: &str| reachable(address.parse().unwrap()).to_string();
        assert_eq!(asked("0.0.0.0:81"), "127.0.0.1:81");
        assert_eq!(asked("[::]:81"), "[::1]:81");
        assert_eq!(asked("10.1.2.3:81"), "10.1.2.3:81");
    }
}
