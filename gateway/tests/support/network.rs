//! A way to a server that can be cut and frozen.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

/// Passes bytes on to a server on this machine.
pub(crate) struct Network {
    pub(crate) port: u16,
    /// Whether bytes pass. While they do not, connections are taken and nothing
    /// is answered, as a firewall does that drops packets.
    passes: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Network {
    /// A way to this port.
    pub(crate) async fn to(port: u16) -> Self {
        Self::to_each(vec![port]).await
    }

    /// A way to these ports in turn, a connection each, as a balancer does.
    pub(crate) async fn to_each(ports: Vec<u16>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let own_port = listener.local_addr().unwrap().port();
        let (passes, passing) = watch::channel(true);
        let accepting = tokio::spawn(async move {
            let mut ports = ports.into_iter().cycle();
            while let Ok((client, _)) = listener.accept().await {
                let server = SocketAddr::from(([127, 0, 0, 1], ports.next().unwrap()));
                let passing = passing.clone();
                tokio::spawn(async move {
                    let Ok(server) = TcpStream::connect(server).await else { return };
                    let (client_reads, client_writes) = client.into_split();
                    let (server_reads, server_writes) = server.into_split();
                    tokio::select! {
                        () = pass(client_reads, server_writes, passing.clone()) => {}
                        () = pass(server_reads, client_writes, passing) => {}
                    }
                });
            }
        });
        Self { port: own_port, passes, accepting }
    }

    /// Nothing passes any more, and nobody is told.
    pub(crate) fn freeze(&self) {
        self.passes.send_replace(false);
    }

    /// It goes on where it stopped.
    pub(crate) fn thaw(&self) {
        self.passes.send_replace(true);
    }

    /// The URL by this way.
    pub(crate) fn url(&self, url: &str) -> String {
        let (before, after) = url.rsplit_once('@').unwrap();
        let (_, database) = after.split_once('/').unwrap();
        format!("{before}@127.0.0.1:{}/{database}", self.port)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut passing: watch::Receiver<bool>) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if passing.wait_for(|passing| *passing).await.is_err()
            || to.write_all(&buffer[..read]).await.is_err()
        {
            return;
        }
    }
}
