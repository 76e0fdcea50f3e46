//! The pages that a stranger follows, followed: each block is done as it stands in the page, on
//! a real PostgreSQL and the real binary.

use std::net::{SocketAddr, TcpListener};

use notify_gateway::throwaway::Postgres;

use crate::support::{Guide, own_server};

/// How the pages call the server that the reader has.
const EXAMPLE_SERVER: &str = "localhost:5432/";

/// Free ports for what the pages have at fixed ones.
fn free_ports<const N: usize>() -> [SocketAddr; N] {
    // All are held until all are known, so that they differ.
    let held = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap())
}

/// A reader with a server and a checkout, whose gateway is at `gateway` and not at 8080.
fn reader(page: &str, server: &Postgres, [gateway, admin]: [SocketAddr; 2]) -> Guide {
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", server.binaries().display());
    let (gateway_bind, admin_bind) = (gateway.to_string(), admin.to_string());
    let environment = [
        ("PATH", path.as_str()),
        ("GATEWAY_BIND", &gateway_bind),
        ("GATEWAY_ADMIN_BIND", &admin_bind),
        // `check` waits for half of it.
        ("GATEWAY_HEARTBEAT", "2s"),
    ];
    let mut guide = Guide::follow(page, &environment);
    guide.replace(EXAMPLE_SERVER, &format!("127.0.0.1:{}/", server.port()));
    guide.replace("127.0.0.1:8080", &gateway_bind);
    guide
}

/// What the page has as the superuser's password is another one here.
fn as_superuser(guide: &mut Guide, server: &Postgres) {
    let url = server.url("");
    let password = url.strip_prefix("postgres://postgres:").unwrap().split_once('@').unwrap().0;
    guide.replace("postgres:secret@", &format!("postgres:{password}@"));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_nothing_but_psql() {
    let server = own_server(&["fsync=off"]).await;
    let [gateway, admin] = free_ports();
    let mut guide = reader("start.md", &server, [gateway, admin]);
    guide.replace("127.0.0.1:8081", &admin.to_string());
    as_superuser(&mut guide, &server);
    guide.to_the_end();
}
