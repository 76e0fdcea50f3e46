//! A piece of network that can be cut, delayed and black-holed.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp},
    sync::{mpsc, watch},
    task::AbortHandle,
    time::{Instant, sleep, sleep_until, timeout},
};

/// Bytes of one read; 16 of them may be under way in a direction. Little, so
/// that a reader who stops is felt by the writer and not by our memory.
const CHUNK_BYTES: usize = 8 * 1024;
const CHUNKS: usize = 16;

/// How long a connection that has swallowed bytes stays open after its other
/// end has gone. Longer than any watchdog in here: nobody may rely on a FIN.
const SILENCE: Duration = Duration::from_secs(20);

/// A listening port whose connections end at another one. Dropping it closes
/// everything.
pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

/// What the network does at the moment.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Weather {
    state: State,
    delay: Duration,
    cut: Cut,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Clear,
    /// Nothing moves, and all of it arrives later: a path that comes back.
    Stall,
    /// What is sent is taken and never arrives, then or later, and no FIN
    /// tells: a path that is gone for good, such as a NAT that forgot.
    Swallow {
        to_server: bool,
        to_client: bool,
    },
}

/// The latest order to cut; a connection looks at it when `number` changes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Cut {
    number: u64,
    percent: u8,
    reset: bool,
}

struct Shared {
    target: AtomicU16,
    weather: watch::Sender<Weather>,
    lagging: bool,
    open: AtomicUsize,
    rng: Mutex<fastrand::Rng>,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1 and leads to `target` there. With
    /// `lagging`, some connections have a constant lag towards the client for
    /// as long as they last, mostly the first after there was none (which is
    /// likely the LISTEN connection): notifications then come later than what a
    /// query of the same moment sees.
    pub(crate) async fn start(
        target: u16,
        lagging: bool,
        mut rng: fastrand::Rng,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let clear = Weather { state: State::Clear, delay: Duration::ZERO, cut: Cut::default() };
        let shared = Arc::new(Shared {
            target: AtomicU16::new(target),
            weather: watch::Sender::new(clear),
            lagging,
            open: AtomicUsize::new(0),
            rng: Mutex::new(rng.fork()),
        });
        let accepting = tokio::spawn(accept(listener, shared.clone())).abort_handle();
        Ok(Self { port, shared, accepting })
    }

    /// Where to connect instead of to the target.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// New connections lead to another port of 127.0.0.1.
    pub(crate) fn repoint(&self, target: u16) {
        self.shared.target.store(target, Ordering::Relaxed);
    }

    /// Ends about `percent` of the open connections, by RST or by FIN.
    pub(crate) fn cut(&self, percent: u8, reset: bool) {
        self.shared.weather.send_modify(|weather| {
            weather.cut = Cut { number: weather.cut.number + 1, percent, reset };
        });
    }

    /// Nothing moves until [`Proxy::heal`].
    pub(crate) fn stall(&self) {
        self.shared.weather.send_modify(|weather| weather.state = State::Stall);
    }

    /// What is sent in these directions is lost, until [`Proxy::heal`]. A
    /// connection that has lost bytes stays silent after that too.
    pub(crate) fn swallow(&self, to_server: bool, to_client: bool) {
        self.shared
            .weather
            .send_modify(|weather| weather.state = State::Swallow { to_server, to_client });
    }

    /// Everything takes this much longer, both ways, until [`Proxy::heal`].
    pub(crate) fn delay(&self, delay: Duration) {
        self.shared.weather.send_modify(|weather| weather.delay = delay);
    }

    /// Ends stall, swallow and delay.
    pub(crate) fn heal(&self) {
        self.shared.weather.send_modify(|weather| {
            weather.state = State::Clear;
            weather.delay = Duration::ZERO;
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut(100, true);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(carry(stream, shared.clone()));
            }
            // Out of descriptors: those that close make room.
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}

/// One connection, from its accept to its end.
async fn carry(mut client: TcpStream, shared: Arc<Shared>) {
    // Before anything else: a cut that comes from here on means us too.
    let weather = shared.weather.subscribe();
    let is_first = shared.open.fetch_add(1, Ordering::Relaxed) == 0;
    let mut server = None;
    let reset = tokio::select! {
        reset = until_cut(weather.clone(), &shared) => reset,
        reset = join(&mut client, &mut server, weather, &shared, is_first) => reset,
    };
    shared.open.fetch_sub(1, Ordering::Relaxed);
    if reset {
        for stream in [Some(client), server].into_iter().flatten() {
            let _set = stream.set_zero_linger();
        }
    }
}

/// Waits for a cut that means this connection; says whether it is by RST.
async fn until_cut(mut weather: watch::Receiver<Weather>, shared: &Shared) -> bool {
    let mut known = weather.borrow_and_update().cut.number;
    while weather.changed().await.is_ok() {
        let cut = weather.borrow_and_update().cut;
        if cut.number != known {
            known = cut.number;
            if shared.dice(|rng| rng.u8(0..100)) < cut.percent {
                return cut.reset;
            }
        }
    }
    true
}

/// Carries bytes both ways until one side ends; says whether that was an error.
async fn join(
    client: &mut TcpStream,
    server: &mut Option<TcpStream>,
    mut weather: watch::Receiver<Weather>,
    shared: &Shared,
    is_first: bool,
) -> bool {
    // A connection attempt into a black hole is neither refused nor accepted;
    // ours was accepted by the kernel, and gets no further.
    if weather.wait_for(|weather| weather.state == State::Clear).await.is_err() {
        return true;
    }
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, shared.target.load(Ordering::Relaxed)));
    let Ok(Ok(connected)) = timeout(Duration::from_secs(5), TcpStream::connect(target)).await
    else {
        return true;
    };
    let server = server.insert(connected);
    let _nodelay = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let lost = AtomicBool::new(false);
    let up = Pump { weather: weather.clone(), lag: Duration::ZERO, is_up: true, lost: &lost };
    let down = Pump { weather, lag: shared.lag(is_first), is_up: false, lost: &lost };
    let failed = tokio::select! {
        ended = up.run(from_client, to_server) => ended.is_err(),
        ended = down.run(from_server, to_client) => ended.is_err(),
    };
    if lost.load(Ordering::Relaxed) {
        sleep(SILENCE).await;
    }
    failed
}

/// One direction of a connection.
struct Pump<'a> {
    weather: watch::Receiver<Weather>,
    lag: Duration,
    is_up: bool,
    /// Whether the connection has lost bytes: then nothing more may get
    /// through, or a stream with a hole in it would arrive, which no network
    /// does.
    lost: &'a AtomicBool,
}

impl Pump<'_> {
    async fn run(self, from: tcp::ReadHalf<'_>, to: tcp::WriteHalf<'_>) -> io::Result<()> {
        let (queue, queued) = mpsc::channel(CHUNKS);
        let weather = self.weather.clone();
        tokio::try_join!(self.read(from, queue), write(to, queued, weather)).map(|_| ())
    }

    async fn read(
        mut self,
        mut from: tcp::ReadHalf<'_>,
        queue: mpsc::Sender<(Instant, Bytes)>,
    ) -> io::Result<()> {
        let mut has_lost = false;
        let mut buffer = BytesMut::new();
        loop {
            clear_of_stall(&mut self.weather).await?;
            buffer.reserve(CHUNK_BYTES);
            let read = from.read_buf(&mut buffer).await?;
            if read == 0 {
                return Ok(());
            }
            let chunk = buffer.split().freeze();
            let Weather { state, delay, .. } = *self.weather.borrow();
            has_lost |= match state {
                State::Swallow { to_server, to_client } => {
                    if self.is_up {
                        to_server
                    } else {
                        to_client
                    }
                }
                State::Clear | State::Stall => false,
            };
            if has_lost {
                self.lost.store(true, Ordering::Relaxed);
            } else if queue.send((Instant::now() + self.lag + delay, chunk)).await.is_err() {
                return Ok(());
            }
        }
    }
}

/// In order, each when it is due: what has been read before the other side's
/// end still arrives.
async fn write(
    mut to: tcp::WriteHalf<'_>,
    mut queued: mpsc::Receiver<(Instant, Bytes)>,
    mut weather: watch::Receiver<Weather>,
) -> io::Result<()> {
    while let Some((due, chunk)) = queued.recv().await {
        sleep_until(due).await;
        clear_of_stall(&mut weather).await?;
        to.write_all(&chunk).await?;
    }
    Ok(())
}

async fn clear_of_stall(weather: &mut watch::Receiver<Weather>) -> io::Result<()> {
    let gone = |_| io::Error::from(io::ErrorKind::NotConnected);
    weather.wait_for(|weather| weather.state != State::Stall).await.map(|_| ()).map_err(gone)
}

impl Shared {
    fn dice<T>(&self, throw: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        throw(&mut self.rng.lock())
    }

    /// The lag of one connection: notifications and queries of one gateway get
    /// different ones, which is the point.
    fn lag(&self, is_first: bool) -> Duration {
        if !self.lagging {
            return Duration::ZERO;
        }
        self.dice(|rng| {
            let lags = rng.u8(0..100) < if is_first { 75 } else { 25 };
            Duration::from_millis(if lags { rng.u64(5..400) } else { 0 })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A proxy before a server that sends back what it gets.
    async fn echo() -> (Proxy, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let target = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        });
        let proxy = Proxy::start(target, false, fastrand::Rng::with_seed(1)).await.unwrap();
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).await.unwrap();
        (proxy, stream)
    }

    async fn says(stream: &mut TcpStream, byte: u8) -> Option<u8> {
        stream.write_all(&[byte]).await.unwrap();
        hears(stream).await
    }

    async fn hears(stream: &mut TcpStream) -> Option<u8> {
        timeout(Duration::from_millis(300), stream.read_u8()).await.ok()?.ok()
    }

    #[tokio::test]
    async fn a_stall_keeps_what_is_sent_and_a_heal_brings_it() {
        let (proxy, mut stream) = echo().await;
        assert_eq!(says(&mut stream, 1).await, Some(1));
        proxy.stall();
        assert_eq!(says(&mut stream, 2).await, None);
        proxy.heal();
        assert_eq!(hears(&mut stream).await, Some(2));
    }

    #[tokio::test]
    async fn what_is_swallowed_never_comes_and_nothing_after_it() {
        let (proxy, mut stream) = echo().await;
        assert_eq!(says(&mut stream, 1).await, Some(1));
        proxy.swallow(false, true);
        assert_eq!(says(&mut stream, 2).await, None);
        proxy.heal();
        assert_eq!(says(&mut stream, 3).await, None);
    }

    #[tokio::test]
    async fn a_cut_is_an_end_or_a_reset() {
        let (proxy, mut stream) = echo().await;
        assert_eq!(says(&mut stream, 1).await, Some(1));
        proxy.cut(100, false);
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);

        let (proxy, mut stream) = echo().await;
        assert_eq!(says(&mut stream, 1).await, Some(1));
        proxy.cut(100, true);
        let kind = stream.read(&mut [0]).await.unwrap_err().kind();
        assert_eq!(kind, io::ErrorKind::ConnectionReset);
    }
}
