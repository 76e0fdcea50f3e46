//! One stream, over all its connections.

use std::io;

use mio::{Registry, Token};

use super::{
    connection::{self, Connection},
    counts::Counts,
};
use crate::{
    clock::now_ns,
    ledger::Row,
    marker::Tag,
    protocol::{EventNames, Setup, StreamOrder},
    verdict::{Account, Cut, Received},
    wire::{Event, News, WireError},
};

/// A client waits this long before it comes back, where the server has not said
/// how long.
const RETRY_MS: u64 = 500;

/// A server's `retry:` is honoured up to this: a run has no time for more.
const MAX_RETRY_MS: u64 = 1000;

pub(super) struct Stream {
    pub(super) account: Account,
    order: StreamOrder,
    /// It closes as soon as it is open.
    is_brief: bool,
    reads: bool,
    connection: Option<Connection>,
    /// What it sends as `Last-Event-ID`.
    cursor: Vec<u8>,
    retry_ms: u64,
    is_closed: bool,
}

/// Why a connection is over that we did not close.
#[derive(Debug)]
pub(super) enum Ended {
    /// The server ended the body or the connection.
    Body,
    /// Another status than 200.
    Status(u16),
    Wire(WireError),
    Error(io::ErrorKind),
    /// A brief one, open: as it should be.
    Brief,
}

impl Stream {
    pub(super) fn new(order: StreamOrder, is_brief: bool) -> Self {
        Self {
            account: Account { user: order.user, stayed: !is_brief, ..Account::default() },
            is_brief,
            reads: order.reads,
            order,
            connection: None,
            cursor: Vec::new(),
            retry_ms: RETRY_MS,
            is_closed: false,
        }
    }

    /// Whether its latencies count: one that does not read is late by itself, and
    /// a brief one may get what was written before it came.
    pub(super) fn is_timed(&self) -> bool {
        self.order.reads && !self.is_brief
    }

    /// Sends the SYN.
    pub(super) fn connect(
        &mut self,
        setup: &Setup,
        registry: &Registry,
        token: Token,
    ) -> io::Result<()> {
        if self.is_closed {
            return Ok(());
        }
        let StreamOrder { user_id, token: credential, source, reads, .. } = &self.order;
        let request = setup.request.render(user_id, credential, &self.cursor);
        let begun_ns = now_ns();
        let socket = connection::connect(setup.address, *source, *reads, registry, token)?;
        self.connection = Some(Connection::begin(socket, begun_ns, request, &self.cursor));
        Ok(())
    }

    /// The socket is ready for something.
    pub(super) fn turn(
        &mut self,
        event: &mio::event::Event,
        buffer: &mut [u8],
        tag: &Tag,
        names: &EventNames,
        counts: &mut Counts,
    ) -> Option<Ended> {
        let connection = self.connection.as_mut()?;
        if event.is_writable()
            && let Err(error) = connection.write()
        {
            return Some(Ended::Error(error.kind()));
        }
        // One that does not read still has to see its stream open.
        if !self.reads && connection.is_open {
            return None;
        }
        let is_last = event.is_read_closed();
        if event.is_readable() || is_last {
            return self.read(is_last, buffer, tag, names, counts);
        }
        None
    }

    /// A stream that has not read begins to. Its readiness was told when nobody
    /// listened: registering anew has it told again. (Reading on the spot would
    /// go on for as long as the server has something, and hold up all others.)
    pub(super) fn begin_reading(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        if self.reads {
            return Ok(());
        }
        self.reads = true;
        self.connection.as_mut().map_or(Ok(()), |connection| connection.rearm(registry, token))
    }

    /// Reads until less comes than fits: then the socket was empty, and what
    /// comes later is told anew. (Unless it `is_last`: the end has been told.)
    fn read(
        &mut self,
        is_last: bool,
        buffer: &mut [u8],
        tag: &Tag,
        names: &EventNames,
        counts: &mut Counts,
    ) -> Option<Ended> {
        loop {
            let connection = self.connection.as_mut()?;
            let count = match connection.read(buffer) {
                Ok(None) => return None,
                Ok(Some(0)) => return Some(Ended::Body),
                Ok(Some(count)) => count,
                Err(error) => return Some(Ended::Error(error.kind())),
            };
            if let Some(ended) = self.take(&buffer[..count], tag, names, counts) {
                return Some(ended);
            }
            if count < buffer.len() && !is_last {
                return None;
            }
        }
    }

    fn take(
        &mut self,
        bytes: &[u8],
        tag: &Tag,
        names: &EventNames,
        counts: &mut Counts,
    ) -> Option<Ended> {
        let connection = self.connection.as_mut()?;
        let now = now_ns();
        counts.bytes += bytes.len() as u64;
        connection.first_byte_ns.get_or_insert(now);
        let mut intake = Intake {
            account: &mut self.account,
            names,
            now,
            is_timed: self.order.reads && !self.is_brief,
            status: None,
            opens: false,
            closing: None,
            counts,
        };
        let pushed = connection.response.push(bytes, tag, &mut |news| intake.news(&news));
        let Intake { status, opens, closing, .. } = intake;
        if let Err(error) = pushed {
            return Some(Ended::Wire(error));
        }
        if let Some(status) = status.filter(|&status| status != 200) {
            return Some(Ended::Status(status));
        }
        if let Some(why) = closing {
            counts.end(&format!("{}: {why}", names.closing));
        }
        if opens && !connection.is_open {
            connection.is_open = true;
            let began = connection.begun_ns;
            let first_byte = connection.first_byte_ns.unwrap_or(now);
            counts.opened(now - began, first_byte - began, self.account.opened_ns.is_some());
            self.account.opened_ns.get_or_insert(now);
            if let Some(cut) = self.account.cuts.last_mut() {
                cut.reopened_ns.get_or_insert(now);
            }
            if self.is_brief {
                return Some(Ended::Brief);
            }
        }
        connection.response.has_ended().then_some(Ended::Body)
    }

    /// The connection is over. How long until the next, in nanoseconds, if there
    /// is to be one.
    pub(super) fn ended(
        &mut self,
        ended: Ended,
        counts: &mut Counts,
        rng: &mut fastrand::Rng,
    ) -> Option<u64> {
        self.keep_cursor();
        let was_open = self.connection.take().is_some_and(|connection| connection.is_open);
        if was_open {
            counts.open -= 1;
        }
        match ended {
            Ended::Brief => {
                self.is_closed = true;
                return None;
            }
            Ended::Body if was_open => counts.end("the server ended the stream"),
            Ended::Body => counts.end("the server ended the connection before the stream"),
            Ended::Status(status) => counts.end(&format!("status {status}")),
            Ended::Wire(error) => counts.end(&error.to_string()),
            Ended::Error(kind) => counts.end(&kind.to_string()),
        }
        if was_open {
            counts.pending += 1;
            self.account.cuts.push(Cut { at_ns: now_ns(), reopened_ns: None });
        }
        // Everyone at once would be another storm.
        let pause_ms = self.retry_ms.clamp(1, MAX_RETRY_MS);
        Some(rng.u64(pause_ms / 2..=pause_ms) * 1_000_000)
    }

    /// Cuts an open stream; false where there is none to cut.
    pub(super) fn cut(&mut self, now: u64, counts: &mut Counts) -> bool {
        if !self.connection.as_ref().is_some_and(|connection| connection.is_open) {
            return false;
        }
        self.keep_cursor();
        self.connection = None;
        self.account.cuts.push(Cut { at_ns: now, reopened_ns: None });
        counts.open -= 1;
        counts.pending += 1;
        true
    }

    /// For good.
    pub(super) fn close(&mut self) {
        self.connection = None;
        self.is_closed = true;
    }

    fn keep_cursor(&mut self) {
        if let Some(connection) = &self.connection {
            self.cursor = connection.response.last_event_id().to_vec();
            self.retry_ms = connection.response.retry_ms().unwrap_or(self.retry_ms);
        }
    }
}

/// Takes in the news of one read.
struct Intake<'a> {
    account: &'a mut Account,
    counts: &'a mut Counts,
    names: &'a EventNames,
    now: u64,
    is_timed: bool,
    status: Option<u16>,
    opens: bool,
    closing: Option<String>,
}

impl Intake<'_> {
    fn news(&mut self, news: &News<'_>) {
        match news {
            News::Head(status) => {
                self.status = Some(*status);
                self.opens |= self.names.opened.is_none();
            }
            News::Event(event) => self.event(event),
        }
    }

    fn event(&mut self, event: &Event<'_>) {
        let is_notification =
            self.names.notification.iter().any(|name| name.as_bytes() == event.name);
        if let (true, Some(marker)) = (is_notification, event.marker) {
            let row = Row { transaction: marker.transaction, position: marker.position };
            self.account.received.push(Received { row, user: marker.user, at_ns: self.now });
            // What a brief one catches in passing is owed to nobody.
            self.counts.deliveries += u64::from(self.account.stayed);
            if self.is_timed {
                self.counts.delivered(self.now.saturating_sub(marker.intended_ns));
            }
            return;
        }
        self.counts.other_events += 1;
        let is = |name: &str| name.as_bytes() == event.name;
        if self.names.opened.as_deref().is_some_and(is) {
            self.opens = true;
        } else if is(&self.names.resync) {
            self.account.resyncs_ns.push(self.now);
        } else if is(&self.names.closing) {
            self.closing = Some(String::from_utf8_lossy(event.excerpt).into_owned());
        }
    }
}
