//! Where the two halves meet: what Postgres says becomes rows in the queues of
//! their users' streams, in the order it says it, and without ever waiting for a
//! stream.
//!
//! Notifications are for speed, the sweep is for truth. A sweep brings what the one
//! before did not see, and what no notification has brought yet goes out from there.
//! Only after that, and once Postgres has the transaction numbers on disk, may
//! cursors claim what the sweep's snapshot sees.

use std::{borrow::Cow, collections::HashSet, sync::Arc};

use foldhash::fast::RandomState;
use parking_lot::Mutex;

use crate::{
    cursor::{RowKey, Snapshot},
    error::LogGate,
    feed::Row,
    horizon::Horizon,
    hub::{Audience, Hub},
    metrics::Metrics,
    notification::{Payload, PayloadError, UserId},
    quiet::Load,
};

/// What Postgres has to say, in the order it said it.
#[derive(Debug)]
pub enum Signal<'a> {
    /// A payload came in on the channel: a row, a ring, or anything a person
    /// typed.
    Payload(Cow<'a, str>),
    /// LISTEN holds, or no longer does.
    Listening(bool),
    /// What the log has got since the sweep before.
    Swept(Sweep),
    /// The snapshot of this sweep outlives a crash.
    Durable(u64),
    /// Every transaction that began to write while the triggers were quiet is below this
    /// one.
    Loud(u64),
    /// Transaction numbers mean something else from here on; also the start.
    Epoch(Horizon),
}

/// The outcome of a sweep.
#[derive(Debug)]
pub struct Sweep {
    /// Which sweep this is.
    pub number: u64,
    /// Taken before the rows were looked for.
    pub snapshot: Arc<Snapshot>,
    /// What was seen when they were found: of all transactions that it sees the rows are told
    /// with this sweep, or were before.
    pub seen: Snapshot,
    /// Whether transactions may have written without a ring.
    pub quiet: Quiet,
    /// What [`Dispatch::wanted`] has asked for, in the order of their `seq`: that of the
    /// changes to one row, and of one transaction. `None` when the new rows are too many
    /// to list.
    pub rows: Option<Vec<SweptRow>>,
}

/// Whether the triggers ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quiet {
    /// They do.
    No,
    /// They do not.
    Yes,
    /// They do again; [`Signal::Loud`] is to come.
    Ending,
}

/// A row that a sweep has found.
#[derive(Debug)]
pub struct SweptRow {
    /// Its place in history.
    pub key: RowKey,
    /// Whose it is.
    pub user: UserId,
    /// Itself, unless the sweep's answer was full.
    pub row: Option<Row>,
}

/// Rows remembered as published since the watermark. Past it all are forgotten:
/// the next sweep then sends streams to the table for rows they have, and their
/// cursors leave those out.
const MAX_KNOWN: usize = 65_536;

/// The dispatcher, for those who bring signals: whoever does carries them to the
/// streams' queues itself.
pub struct Dispatch<A = Hub>(Mutex<Dispatcher<A>>);

impl<A: Audience> Dispatch<A> {
    /// For several to share.
    pub fn new(dispatcher: Dispatcher<A>) -> Self {
        Self(Mutex::new(dispatcher))
    }

    /// Takes one signal.
    pub fn take(&self, signal: Signal<'_>) {
        // A panic half-way would leave rows that are known and were not sent:
        // the next sweep finds those that are beyond the watermark.
        self.0.lock().take(signal);
    }

    /// Which of these rows have to be read: those that no notification has brought,
    /// and whose users are here.
    pub fn wanted(&self, unseen: Vec<(RowKey, UserId)>) -> Vec<(RowKey, UserId)> {
        self.0.lock().wanted(unseen)
    }
}

/// Takes signals and publishes what they carry.
pub struct Dispatcher<A = Hub> {
    audience: Arc<A>,
    metrics: Arc<Metrics>,
    /// Whether rows are taken from notifications, which anyone may send who may
    /// connect to the database.
    trust_payloads: bool,
    known: Known,
    /// The last sweep and its snapshot, which is not the watermark yet.
    pending: Option<(u64, Arc<Snapshot>)>,
    /// What the last sweep has seen.
    swept: Option<Snapshot>,
    rung: Vec<Rung>,
    silence: Silence,
    /// Sweeps that have to come before what was committed while nobody listened is known.
    missed: u32,
    load: Arc<Load>,
    bad_payload_logged: LogGate,
}

/// Whether the log may have what no notification tells of and what comes before the next
/// one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Silence {
    No,
    Yes,
    /// Until a sweep sees all transactions below this one.
    Below(u64),
}

/// What streams have been told of beyond the watermark.
#[derive(Default)]
struct Known(HashSet<(RowKey, UserId), RandomState>);

/// A transaction that has more in the log than was notified.
struct Rung {
    xact: u64,
    /// Sweeps since.
    sweeps: u32,
}

/// Rings that are remembered one by one. Further ones are heard by the sweep that
/// these ask for.
const MAX_RUNG: usize = 1024;

/// The sweep that was under way when a ring came, or LISTEN began, may not see what was
/// committed before; the next one does, or somebody has made it up.
const SWEEPS_PER_RING: u32 = 2;

impl<A: Audience> Dispatcher<A> {
    /// A dispatcher that tells `audience`.
    pub fn new(audience: Arc<A>, metrics: Arc<Metrics>, load: Arc<Load>) -> Self {
        Self {
            audience,
            metrics,
            load,
            silence: Silence::Yes,
            missed: SWEEPS_PER_RING,
            trust_payloads: true,
            known: Known::default(),
            pending: None,
            swept: None,
            rung: Vec::new(),
            bad_payload_logged: LogGate::default(),
        }
    }

    /// Whether rows are taken from notifications (they are, unless told
    /// otherwise), or each is only a reason to sweep.
    #[must_use]
    pub fn trust_payloads(self, trust_payloads: bool) -> Self {
        Self { trust_payloads, ..self }
    }

    /// Takes one signal. Never waits for anybody.
    pub fn take(&mut self, signal: Signal<'_>) {
        match signal {
            Signal::Payload(payload) => self.payload(&payload),
            // What was committed while nobody listened is found at once, and told before
            // what comes now.
            Signal::Listening(_) => {
                self.missed = SWEEPS_PER_RING;
                self.audience.requests().ask();
            }
            Signal::Swept(sweep) => self.swept(sweep),
            Signal::Durable(number) => {
                if let Some((_, snapshot)) = self.pending.take_if(|(swept, _)| *swept == number) {
                    self.known.forget(&snapshot);
                    self.audience.advance(snapshot);
                }
            }
            Signal::Loud(xact) => self.silence = Silence::Below(xact),
            Signal::Epoch(horizon) => {
                self.pending = None;
                self.swept = None;
                self.silence = Silence::Yes;
                self.known = Known::default();
                self.rung.clear();
                self.audience.begin_epoch(horizon);
            }
        }
    }

    fn payload(&mut self, payload: &str) {
        if self.load.add(1) || !self.trust_payloads {
            self.audience.requests().ask();
        }
        if !self.trust_payloads {
            return;
        }
        match Payload::decode(payload) {
            // It has been told, unless the log has forgotten it since, as it does with what a
            // deleted row was before: then it must not come behind the deletion.
            Ok(Payload::Event(row)) if self.has_swept(row.key.xact) => {}
            // What the log has of earlier commits comes first: a row's state of then
            // must not come behind the one of now.
            Ok(Payload::Event(_)) if self.may_have_missed() => self.audience.requests().ask(),
            Ok(Payload::Event(row)) => {
                if self.known.insert(row.key, &row.user) {
                    self.audience.requests().set_dirty();
                    let encode =
                        || Row { made_at: row.made_at, ..Row::new(row.key, row.event, row.data) };
                    self.audience.publish(&row.user, encode);
                }
            }
            Ok(Payload::Ring { xact }) => {
                if self.rung.len() < MAX_RUNG {
                    self.rung.push(Rung { xact, sweeps: 0 });
                }
                self.audience.requests().ask();
            }
            Err(error) => self.refuse(error, payload.len()),
        }
    }

    fn has_swept(&self, xact: u64) -> bool {
        self.swept.as_ref().is_some_and(|swept| swept.sees(xact))
    }

    /// Whether the log may have events of earlier commits that were not told yet.
    fn may_have_missed(&self) -> bool {
        self.missed > 0 || !self.rung.is_empty() || self.silence != Silence::No
    }

    /// A sweep has found what the transactions that it sees have rung for.
    fn answer_rings(&mut self, swept: &Snapshot) {
        self.missed = self.missed.saturating_sub(1);
        self.rung.retain_mut(|rung| {
            rung.sweeps += 1;
            !swept.sees(rung.xact) && rung.sweeps < SWEEPS_PER_RING
        });
        if self.missed > 0 || !self.rung.is_empty() {
            self.audience.requests().ask();
        }
    }

    fn wanted(&self, mut unseen: Vec<(RowKey, UserId)>) -> Vec<(RowKey, UserId)> {
        unseen.retain(|row| !self.known.0.contains(row) && self.audience.wants(&row.1));
        unseen
    }

    fn swept(&mut self, sweep: Sweep) {
        self.known.keep_seen_by(&sweep.snapshot);
        self.answer_rings(&sweep.snapshot);
        match (sweep.quiet, self.silence) {
            (Quiet::Yes | Quiet::Ending, _) => self.silence = Silence::Yes,
            (Quiet::No, Silence::Below(xact)) if !sweep.snapshot.sees_all_below(xact) => {}
            (Quiet::No, _) => self.silence = Silence::No,
        }
        match sweep.rows {
            Some(rows) => rows.into_iter().for_each(|swept| self.publish_swept(swept)),
            None => self.audience.lose_all(),
        }
        self.swept = Some(sweep.seen);
        self.pending = Some((sweep.number, sweep.snapshot));
    }

    fn publish_swept(&mut self, SweptRow { key, user, row }: SweptRow) {
        // A notification may have brought it while it was read.
        if !self.known.insert(key, &user) {
            return;
        }
        self.metrics.swept_row();
        match row {
            Some(row) => self.audience.publish(&user, || row),
            None => self.audience.lose(&user),
        }
    }

    /// Anyone who may connect to the database may type into the channel. It is
    /// counted each time and logged once a burst, without what was typed.
    fn refuse(&mut self, error: PayloadError, bytes: usize) {
        self.metrics.payload_error(error);
        if self.bad_payload_logged.opens() {
            tracing::warn!(
                payload.bytes = bytes,
                %error,
                "ignored a NOTIFY that no trigger of ours sent; more in the next minute are only counted"
            );
        }
    }
}

impl Known {
    /// Whether the row is new.
    fn insert(&mut self, key: RowKey, user: &UserId) -> bool {
        if self.0.len() >= MAX_KNOWN {
            *self = Self::default();
        }
        self.0.insert((key, user.clone()))
    }

    /// Forgets what the sweep could not know of. A row committed since will be
    /// looked up once for nothing; one that somebody made up, naming a
    /// transaction that is still to come, will not pass for the real one.
    fn keep_seen_by(&mut self, swept: &Snapshot) {
        self.0.retain(|(key, _)| key.xact < swept.xmax());
    }

    /// A sweep no longer reports what the watermark sees.
    fn forget(&mut self, watermark: &Snapshot) {
        self.0.retain(|(key, _)| !watermark.sees(key.xact));
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        horizon::{Epoch, Epochs},
        hub::{
            HubLimits,
            testing::{received, watermark},
        },
        notification::EventName,
        quiet::QuietMode,
    };

    const ADA: UserId = UserId::uuid(Uuid::from_u128(1));
    const BOB: UserId = UserId::uuid(Uuid::from_u128(2));

    fn row(xact: u64, seq: i64, user: &UserId) -> Signal<'static> {
        let (xact, data) = (format!("\"{xact}\""), r#"{"id":1}"#);
        let envelope = format!(r#""user_id":"{user}","event":"notification","data":{data}"#);
        let text = format!(r#"{{"xact_id":{xact},"seq":{seq},{envelope}}}"#);
        Signal::Payload(text.into())
    }

    fn swept(number: u64, snapshot: &str, rows: &[(u64, i64, UserId)]) -> Signal<'static> {
        let rows = rows.iter().map(|(xact, seq, user)| {
            let key = RowKey { xact: *xact, seq: *seq };
            let row = Some(Row::new(key, EventName::NOTIFICATION, "{}"));
            SweptRow { key, user: user.clone(), row }
        });
        let seen: Snapshot = snapshot.parse().unwrap();
        let (snapshot, rows) = (Arc::new(seen.clone()), Some(rows.collect()));
        Signal::Swept(Sweep { number, snapshot, seen, quiet: Quiet::No, rows })
    }

    /// A hub in its first epoch, and a dispatcher on which LISTEN holds.
    fn dispatcher() -> (Arc<Hub>, Dispatcher) {
        let hub = Hub::new(HubLimits { queued_rows: 8, streams: 8, streams_per_user: 8 });
        let load = Arc::new(Load::new(QuietMode::Never, 1000));
        let mut dispatcher = Dispatcher::new(Arc::clone(&hub), Arc::new(Metrics::new()), load);
        dispatcher.take(Signal::Epoch(horizon("3:3:")));
        dispatcher.take(Signal::Listening(true));
        dispatcher.take(sweep(0, "3:3:", Quiet::No));
        dispatcher.take(sweep(0, "3:3:", Quiet::No));
        (hub, dispatcher)
    }

    /// A sweep that finds nothing.
    fn sweep(number: u64, snapshot: &str, quiet: Quiet) -> Signal<'static> {
        let seen: Snapshot = snapshot.parse().unwrap();
        let snapshot = Arc::new(seen.clone());
        Signal::Swept(Sweep { number, snapshot, seen, quiet, rows: Some(Vec::new()) })
    }

    fn horizon(watermark: &str) -> Horizon {
        let watermark = Arc::new(watermark.parse().unwrap());
        let epochs = Epochs::new(vec![Epoch { number: 1, first: None, is_restart: false }]);
        Horizon { watermark, epochs }
    }

    #[test]
    fn what_no_notification_brought_goes_out_once_a_sweep_has_found_it() {
        let (hub, mut dispatcher) = dispatcher();
        let [ada, bob] = [ADA, BOB].map(|user| hub.subscribe(user, None).unwrap());
        dispatcher.take(row(3, 1, &ADA));
        let carol = UserId::uuid(Uuid::from_u128(3));
        let key = |xact, seq| RowKey { xact, seq };
        let unseen = vec![(key(3, 1), ADA), (key(4, 2), BOB), (key(4, 3), carol)];
        assert_eq!(dispatcher.wanted(unseen), [(key(4, 2), BOB)]);
        dispatcher.take(swept(1, "5:5:", &[(3, 1, ADA), (4, 2, BOB)]));
        assert_eq!((received(&ada), received(&bob)), (Some(1), Some(1)));
        // Its notification was late.
        dispatcher.take(row(4, 2, &BOB));
        assert_eq!(received(&bob), Some(0));
    }

    #[test]
    fn what_was_missed_while_nobody_listened_is_told_before_what_is_notified() {
        let (hub, mut dispatcher) = dispatcher();
        let ada = hub.subscribe(ADA, None).unwrap();
        dispatcher.take(Signal::Listening(false));
        dispatcher.take(Signal::Listening(true));
        dispatcher.take(row(5, 1, &ADA));
        assert_eq!(received(&ada), Some(0));
        // It was under way when LISTEN began.
        dispatcher.take(sweep(1, "4:4:", Quiet::No));
        dispatcher.take(row(5, 2, &ADA));
        assert_eq!(received(&ada), Some(0));
        dispatcher.take(swept(2, "6:6:", &[(4, 9, ADA), (5, 1, ADA), (5, 2, ADA)]));
        assert_eq!(received(&ada), Some(3));
        dispatcher.take(row(6, 1, &ADA));
        assert_eq!(received(&ada), Some(1));
    }

    #[test]
    fn what_is_notified_waits_for_those_who_were_silent() {
        let (hub, mut dispatcher) = dispatcher();
        let ada = hub.subscribe(ADA, None).unwrap();
        let mut waits = |signal: Option<Signal<'_>>, xact| {
            signal.into_iter().for_each(|signal| dispatcher.take(signal));
            dispatcher.take(row(xact, 1, &ADA));
            received(&ada) == Some(0)
        };
        assert!(!waits(None, 10));
        assert!(waits(Some(sweep(1, "11:11:", Quiet::Yes)), 11));
        assert!(waits(Some(sweep(2, "12:12:", Quiet::Ending)), 12));
        assert!(waits(Some(sweep(3, "13:13:", Quiet::Ending)), 13));
        // Transaction 14 began while it was quiet, and is not over yet.
        assert!(waits(Some(Signal::Loud(15)), 16));
        assert!(waits(Some(sweep(4, "14:17:14", Quiet::No)), 17));
        assert!(!waits(Some(sweep(5, "18:18:", Quiet::No)), 18));
    }

    #[test]
    fn what_did_not_fit_into_a_sweep_is_read_from_the_log() {
        let (hub, mut dispatcher) = dispatcher();
        let [ada, bob] = [ADA, BOB].map(|user| hub.subscribe(user, None).unwrap());
        let key = RowKey { xact: 3, seq: 1 };
        let rows = Some(vec![SweptRow { key, user: ADA, row: None }]);
        let seen: Snapshot = "5:5:".parse().unwrap();
        let snapshot = Arc::new(seen.clone());
        let quiet = Quiet::No;
        dispatcher.take(Signal::Swept(Sweep { number: 1, snapshot, seen, quiet, rows }));
        assert_eq!((received(&ada), received(&bob)), (None, Some(0)));
        let seen: Snapshot = "6:6:".parse().unwrap();
        let snapshot = Arc::new(seen.clone());
        let quiet = Quiet::No;
        dispatcher.take(Signal::Swept(Sweep { number: 2, snapshot, seen, quiet, rows: None }));
        assert_eq!((received(&ada), received(&bob)), (None, None));
    }

    #[test]
    fn the_watermark_moves_once_its_sweep_is_durable_and_with_no_other() {
        let (hub, mut dispatcher) = dispatcher();
        dispatcher.take(swept(1, "5:5:", &[]));
        assert_eq!(watermark(&hub), "3:3:");
        dispatcher.take(swept(2, "6:6:", &[]));
        dispatcher.take(Signal::Durable(1));
        assert_eq!(watermark(&hub), "3:3:");
        dispatcher.take(Signal::Durable(2));
        assert_eq!(watermark(&hub), "6:6:");
    }

    #[test]
    fn a_forged_row_of_a_transaction_to_come_does_not_pass_for_the_real_one() {
        let (hub, mut dispatcher) = dispatcher();
        let ada = hub.subscribe(ADA, None).unwrap();
        dispatcher.take(row(9, 1, &ADA));
        assert_eq!(received(&ada), Some(1));
        dispatcher.take(swept(1, "5:5:", &[]));
        // The real one, whose notification is lost.
        let key = RowKey { xact: 9, seq: 1 };
        assert_eq!(dispatcher.wanted(vec![(key, ADA)]), [(key, ADA)]);
        dispatcher.take(swept(2, "10:10:", &[(9, 1, ADA)]));
        assert_eq!(received(&ada), Some(1));
    }

    fn ring(xact: u64) -> Signal<'static> {
        Signal::Payload(format!(r#"{{"xact_id":"{xact}"}}"#).into())
    }

    #[test]
    fn what_is_notified_behind_a_ring_does_not_overtake_what_it_rang_for() {
        let (hub, mut dispatcher) = dispatcher();
        let ada = hub.subscribe(ADA, None).unwrap();
        dispatcher.take(ring(3));
        dispatcher.take(row(5, 9, &ADA));
        assert_eq!(received(&ada), Some(0));
        // A sweep that began before the ring's transaction had ended.
        dispatcher.take(swept(1, "3:3:", &[]));
        dispatcher.take(row(5, 10, &ADA));
        assert_eq!(received(&ada), Some(0));
        dispatcher.take(swept(2, "6:6:", &[(3, 1, ADA), (5, 9, ADA), (5, 10, ADA)]));
        assert_eq!(received(&ada), Some(3));
        dispatcher.take(row(6, 11, &ADA));
        assert_eq!(received(&ada), Some(1), "live again");
    }

    #[test]
    fn a_ring_that_somebody_made_up_holds_nobody_up_for_long() {
        let (hub, mut dispatcher) = dispatcher();
        let ada = hub.subscribe(ADA, None).unwrap();
        dispatcher.take(ring(1_000_000));
        dispatcher.take(swept(1, "5:5:", &[]));
        dispatcher.take(swept(2, "5:5:", &[]));
        dispatcher.take(row(5, 1, &ADA));
        assert_eq!(received(&ada), Some(1));
    }

    #[test]
    fn a_notification_that_comes_behind_the_sweep_of_its_transaction_tells_nothing() {
        let (hub, mut dispatcher) = dispatcher();
        let ada = hub.subscribe(ADA, None).unwrap();
        // The deletion of a row whose update was erased with it.
        dispatcher.take(swept(1, "5:5:", &[(4, 9, ADA)]));
        assert_eq!(received(&ada), Some(1));
        dispatcher.take(row(4, 8, &ADA));
        assert_eq!(received(&ada), Some(0));
        dispatcher.take(row(5, 10, &ADA));
        assert_eq!(received(&ada), Some(1));
    }

    #[test]
    fn a_row_that_comes_twice_is_published_once() {
        let (hub, mut dispatcher) = dispatcher();
        let ada = hub.subscribe(ADA, None).unwrap();
        dispatcher.take(row(3, 1, &ADA));
        dispatcher.take(row(3, 1, &ADA));
        assert_eq!(received(&ada), Some(1));
    }

    #[test]
    fn an_epoch_forgets_the_sweep_before_it_and_sends_everybody_to_the_table() {
        let (hub, mut dispatcher) = dispatcher();
        let ada = hub.subscribe(ADA, None).unwrap();
        dispatcher.take(swept(1, "9:9:", &[]));
        dispatcher.take(Signal::Epoch(horizon("4:4:")));
        assert_eq!(received(&ada), None);
        dispatcher.take(Signal::Durable(1));
        assert_eq!(watermark(&hub), "4:4:");
    }
}
