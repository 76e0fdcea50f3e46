//! A process full of clients: one thread, one epoll loop, no runtime.
//!
//! It has to be cheap, or it would measure itself: a read goes into one buffer
//! that all streams share, is parsed where it lies, and costs one system call.

mod connection;
mod counts;
mod hostile;
mod stream;

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io::{self, BufRead as _, Write as _},
    sync::{Arc, mpsc},
    time::Duration,
};

use anyhow::Context as _;
use mio::{Events, Poll, Token, Waker};

use crate::{
    clock::{now_ns, process_cpu_ns},
    files,
    marker::Tag,
    protocol::{Judged, Order, Setup, StreamOrder, Tick, Word},
    verdict,
};
use counts::Counts;
use hostile::Hostile;
use stream::{Ended, Stream};

/// How often the loop looks how late it is.
const LAG_EVERY_NS: u64 = 10_000_000;

/// How often the parent hears of us.
pub(crate) const TICK_EVERY_NS: u64 = 250_000_000;

/// How many connects are begun before the sockets have their turn again: all at
/// once, and the first answers would wait for the last SYN.
const CONNECTS_A_TURN: usize = 32;

/// As much as the kernel gives in one go on loopback.
const BUFFER_BYTES: usize = 256 * 1024;

const WAKER: Token = Token(usize::MAX);
/// Tokens from here on are hostile connections.
const HOSTILE: usize = usize::MAX / 2;

/// Runs until standard input ends.
pub(crate) fn run() -> anyhow::Result<()> {
    files::raise_limit().context("the limit on open files")?;
    let mut poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
    let orders = listen(waker);
    let Ok(Some(Order::Setup(setup))) = orders.recv() else { return Ok(()) };
    let mut worker = Worker::new(*setup, &poll)?;
    let mut events = Events::with_capacity(1024);
    loop {
        poll.poll(&mut events, Some(worker.patience())).or_else(interrupted)?;
        let woken = now_ns();
        for event in &events {
            match event.token() {
                WAKER => {}
                Token(token) if token >= HOSTILE => worker.hostile.turn(token - HOSTILE),
                Token(token) => worker.stream_event(token, event),
            }
        }
        loop {
            match orders.try_recv() {
                Ok(Some(order)) => {
                    if worker.obey(order)? {
                        return Ok(());
                    }
                }
                Ok(None) | Err(mpsc::TryRecvError::Disconnected) => return Ok(()),
                Err(mpsc::TryRecvError::Empty) => break,
            }
        }
        worker.turn(woken)?;
    }
}

/// A signal is no error.
fn interrupted(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) }
}

/// Reads orders on a thread of its own; `None` is the end of them.
fn listen(waker: Arc<Waker>) -> mpsc::Receiver<Option<Order>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let order = line.ok().and_then(|line| serde_json::from_str(&line).ok());
            let is_last = order.is_none();
            if sender.send(order).is_err() || waker.wake().is_err() || is_last {
                return;
            }
        }
        // The parent is gone, however it went.
        let _ended = sender.send(None).is_ok() && waker.wake().is_ok();
    });
    receiver
}

fn say(word: &Word) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, word)?;
    out.write_all(b"\n")?;
    out.flush()
}

/// What is to be done at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Task {
    Connect(usize),
    Storm { spread_ns: u64 },
}

struct Worker {
    setup: Setup,
    tag: Tag,
    registry: mio::Registry,
    streams: Vec<Stream>,
    hostile: Hostile,
    due: BinaryHeap<Reverse<(u64, Task)>>,
    counts: Counts,
    buffer: Vec<u8>,
    rng: fastrand::Rng,
    next_lag_ns: u64,
    next_tick_ns: u64,
    had_pending: bool,
}

impl Worker {
    fn new(setup: Setup, poll: &Poll) -> io::Result<Self> {
        let now = now_ns();
        let registry = poll.registry().try_clone()?;
        Ok(Self {
            tag: Tag::new(&setup.run),
            hostile: Hostile::new(poll.registry().try_clone()?, setup.address, HOSTILE),
            rng: fastrand::Rng::with_seed(setup.seed),
            setup,
            registry,
            streams: Vec::new(),
            due: BinaryHeap::new(),
            counts: Counts::default(),
            buffer: vec![0; BUFFER_BYTES],
            next_lag_ns: now + LAG_EVERY_NS,
            // On the same beat in all workers.
            next_tick_ns: (now / TICK_EVERY_NS + 1) * TICK_EVERY_NS,
            had_pending: false,
        })
    }

    /// How long the loop may sleep.
    fn patience(&self) -> Duration {
        let due = self.due.peek().map_or(u64::MAX, |Reverse((at, _))| *at);
        let next = due.min(self.next_lag_ns).min(self.next_tick_ns).min(self.hostile.next_ns());
        Duration::from_nanos(next.saturating_sub(now_ns()))
    }

    /// Does what an order says; true when it was the last.
    fn obey(&mut self, order: Order) -> io::Result<bool> {
        match order {
            Order::Setup(_) => {}
            Order::Open { streams, from_ns, interval_ns } => {
                self.add(streams.into_iter(), false, from_ns, interval_ns);
            }
            Order::Churn { streams, cycles, from_ns, interval_ns } => {
                let turns = streams.iter().cloned().cycle().take(cycles);
                self.add(turns, true, from_ns, interval_ns);
            }
            Order::Storm { at_ns, spread_ns } => {
                self.due.push(Reverse((at_ns, Task::Storm { spread_ns })));
            }
            Order::Hostile { random, slow_heads, until_ns } => {
                self.hostile.begin(random, slow_heads, until_ns);
            }
            Order::Read => self.read_all(),
            Order::Judge(ledger) => {
                self.streams.iter_mut().for_each(Stream::close);
                let mut judged = Judged::default();
                let by_user = ledger.by_user();
                for stream in &self.streams {
                    let account = &stream.account;
                    let owed = by_user.get(account.user as usize).map_or(&[][..], Vec::as_slice);
                    judged.findings.merge(verdict::judge(account, &ledger, owed));
                    if stream.is_timed() {
                        self.counts.settle(account, &ledger);
                    }
                }
                let accounts = self.streams.iter().map(|stream| &stream.account);
                judged.last_receipts_ns = verdict::last_receipts_ns(accounts, &ledger);
                judged.latencies = self.counts.latencies();
                say(&Word::Judged(Box::new(judged)))?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn add(
        &mut self,
        streams: impl Iterator<Item = StreamOrder>,
        is_brief: bool,
        from_ns: u64,
        interval_ns: u64,
    ) {
        let mut at = from_ns;
        for order in streams {
            self.due.push(Reverse((at, Task::Connect(self.streams.len()))));
            self.streams.push(Stream::new(order, is_brief));
            self.counts.pending += 1;
            self.had_pending = true;
            at += interval_ns;
        }
    }

    /// What is due, and the looks at the clock.
    fn turn(&mut self, woken_ns: u64) -> io::Result<()> {
        for _ in 0..CONNECTS_A_TURN {
            let Some(&Reverse((at, task))) = self.due.peek() else { break };
            let now = now_ns();
            if at > now {
                break;
            }
            self.due.pop();
            match task {
                Task::Connect(index) => self.connect(index),
                Task::Storm { spread_ns } => self.storm(now, spread_ns),
            }
        }
        self.hostile.turn_all();
        let now = now_ns();
        if now >= self.next_lag_ns {
            // Late by sleeping too long, or by having had too much to do since.
            self.counts.lag(now - self.next_lag_ns);
            self.next_lag_ns = now.max(woken_ns) + LAG_EVERY_NS;
        }
        let all_open = self.had_pending && self.counts.pending == 0;
        if now >= self.next_tick_ns || all_open {
            self.had_pending = self.counts.pending > 0;
            if now >= self.next_tick_ns {
                self.next_tick_ns = (now / TICK_EVERY_NS + 1) * TICK_EVERY_NS;
            }
            let tick = self.tick();
            say(&Word::Tick(Box::new(tick)))?;
        }
        Ok(())
    }

    fn tick(&mut self) -> Tick {
        self.counts.tick(process_cpu_ns())
    }

    fn connect(&mut self, index: usize) {
        let stream = &mut self.streams[index];
        let begun = stream.connect(&self.setup, &self.registry, Token(index));
        if let Err(error) = begun {
            self.ended(index, Ended::Error(error.kind()));
        }
    }

    fn stream_event(&mut self, index: usize, event: &mio::event::Event) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        let outcome =
            stream.turn(event, &mut self.buffer, &self.tag, &self.setup.events, &mut self.counts);
        if let Some(ended) = outcome {
            self.ended(index, ended);
        }
    }

    /// A connection ended: the stream comes back as a browser's would.
    fn ended(&mut self, index: usize, ended: Ended) {
        let stream = &mut self.streams[index];
        if let Some(pause) = stream.ended(ended, &mut self.counts, &mut self.rng) {
            self.had_pending = true;
            self.due.push(Reverse((now_ns() + pause, Task::Connect(index))));
        }
    }

    fn storm(&mut self, now: u64, spread_ns: u64) {
        for (index, stream) in self.streams.iter_mut().enumerate() {
            if stream.cut(now, &mut self.counts) {
                let at = now + self.rng.u64(0..=spread_ns);
                self.due.push(Reverse((at, Task::Connect(index))));
                self.had_pending = true;
            }
        }
    }

    fn read_all(&mut self) {
        for index in 0..self.streams.len() {
            let begun = self.streams[index].begin_reading(&self.registry, Token(index));
            if let Err(error) = begun {
                self.ended(index, Ended::Error(error.kind()));
            }
        }
    }
}
