//! One history: a world, its steps, its healing, the judgement.

use std::{sync::Arc, time::Duration};

use notify_gateway::{
    metrics::Metrics,
    notification::{Change, UserId},
    stream::signs,
};
use parking_lot::Mutex;
use uuid::Uuid;

use crate::{
    client::Client,
    database::clock,
    gateway::Gateway,
    oracle::{Book, Violation},
    plan::{Act, Plan, Relayed},
    postgres::{Commit, Mode, NoticeText, Postgres, TransactionId, Written},
    relay::{Manners, RelayServer},
    sabotage::Sabotage,
    scene::{Scene, Trace},
    server::{Server, Shared},
    stream::EventKind,
};

/// A round of the healing takes this long, by the gateways' clock.
const ROUND: Duration = Duration::from_millis(250);

/// Everything is at rest when nothing has come for so many rounds, which are
/// three sweeps and more.
const CALM_ROUNDS: usize = 14;

/// The same with a relay: 12 seconds. An edge notices after 3 that it hears no source, and sweeps
/// within 5; one whose sweep has failed tries again within 10; a new source takes up to 6.
const RELAYED_ROUND: Duration = Duration::from_millis(500);
const RELAYED_CALM_ROUNDS: usize = 24;

/// After this many rounds in which something moves, nothing ever comes to rest.
const MAX_ROUNDS: usize = 1_000;

/// The longest time that passes while a part of a gateway waits for its clock and
/// not for the database.
const SWEEP_WAIT: Duration = Duration::from_secs(1);
const LISTEN_WAIT: Duration = Duration::from_millis(500);
const REPLAY_WAIT: Duration = Duration::from_millis(50);
const RELAY_WAIT: Duration = Duration::from_millis(500);

/// How a history is to be run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Decides everything.
    pub seed: u64,
    /// The safeguard that is missing.
    pub without: Option<Sabotage>,
    /// Whether the gateways have a relay.
    pub relayed: Relayed,
    /// Leave off after so many steps and heal.
    pub steps: Option<usize>,
    /// Tell every step.
    pub trace: Telling,
}

/// Whether and where a history is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// It is not.
    Off,
    /// It is printed as it goes.
    Print,
    /// It is in [`Outcome::log`].
    Log,
}

/// What has come of it.
pub struct Outcome {
    /// What the clients have seen.
    pub book: Book,
    /// How many steps it had before the healing.
    pub steps: usize,
    /// How often each of [`Act::FAULTS`] has happened.
    pub faults: [u64; Act::FAULTS.len()],
    /// What was told, with [`Telling::Log`].
    pub log: Vec<String>,
}

/// Runs one history, with a clock of its own that only the history moves.
pub fn run(options: Options, metrics: &Arc<Metrics>) -> Outcome {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    // It opens no file and starts no thread.
    let runtime = builder.enable_time().start_paused(true).build();
    let runtime = runtime.unwrap_or_else(|error| unreachable!("{error}"));
    // The gateway's own jitter.
    fastrand::seed(options.seed);
    let mut dice = fastrand::Rng::with_seed(options.seed);
    let plan = Plan::new(&mut dice, options.relayed);
    let steps = plan.steps.min(options.steps.unwrap_or(usize::MAX));
    let running = async {
        let mut world = World::new(dice, plan, options, metrics).await;
        for _ in 0..steps {
            world.step().await;
        }
        world.heal().await;
        let log = world.take_log();
        let World { book, faults, .. } = world;
        Outcome { book, steps, faults, log }
    };
    // What is polled by hand shares no budget with anybody.
    runtime.block_on(tokio::task::unconstrained(running))
}

struct World {
    shared: Shared,
    metrics: Arc<Metrics>,
    gateways: Vec<Option<Gateway>>,
    clients: Vec<Client>,
    next_nonce: u32,
    next_stream: u64,
    is_healing: bool,
    book: Book,
    faults: [u64; Act::FAULTS.len()],
}

impl World {
    async fn new(
        dice: fastrand::Rng,
        plan: Plan,
        options: Options,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let Options { without, trace, .. } = options;
        let postgres = Postgres::new(plan.first_xact, plan.seq_lookahead);
        let clients =
            (0..plan.clients).map(|number| Client::new(number, user(number % plan.users)));
        let (clients, starts_ready) = (clients.collect(), plan.starts_ready);
        let gateways = (0..plan.gateways).map(|_| None).collect();
        let trace = match trace {
            Telling::Off => Trace::Off,
            Telling::Print => Trace::Print,
            Telling::Log => Trace::Keep(Mutex::default()),
        };
        let manners = plan.relay.map_or_else(Manners::default, |relay| relay.manners);
        let scene = Scene { dice, plan, without, clock: 0, trace };
        let (ears, believed, leads, heard) = Default::default();
        let relay = RelayServer::new(manners);
        let server = Server { postgres, scene, ears, believed, relay, leads, heard };
        let mut world = Self {
            shared: Arc::new(Mutex::new(server)),
            gateways,
            clients,
            next_nonce: 0,
            next_stream: 0,
            is_healing: false,
            book: Book::default(),
            faults: [0; Act::FAULTS.len()],
            metrics: Arc::clone(metrics),
        };
        for place in 0..world.gateways.len() {
            world.start(place);
        }
        if starts_ready {
            while !world.is_ready() {
                world.round().await;
            }
            if world.has_relay() {
                for _ in 0..RELAYED_CALM_ROUNDS {
                    world.round().await;
                }
            }
            // The standby was made of what there was.
            world.shared.lock().postgres.replicate(usize::MAX);
        }
        world
    }

    fn take_log(&self) -> Vec<String> {
        match &self.shared.lock().scene.trace {
            Trace::Keep(lines) => std::mem::take(&mut lines.lock()),
            Trace::Off | Trace::Print => Vec::new(),
        }
    }

    fn is_ready(&self) -> bool {
        let scene = &self.shared.lock().scene;
        self.gateways.iter().flatten().all(|gateway| gateway.is_ready(scene))
    }

    fn has_relay(&self) -> bool {
        self.shared.lock().scene.plan.relay.is_some()
    }

    /// A number below `end`, by the dice.
    fn draw(&self, end: usize) -> usize {
        self.shared.lock().scene.dice.usize(0..end)
    }

    fn chance(&self, percent: impl Fn(&Plan) -> u8) -> bool {
        let scene = &mut self.shared.lock().scene;
        let percent = percent(&scene.plan);
        scene.chance(percent)
    }

    fn tell(&self, what: impl FnOnce() -> String) {
        self.shared.lock().scene.tell(what);
    }

    async fn step(&mut self) {
        self.shared.lock().scene.clock += 1;
        // One that is not possible now gives way to another.
        for _ in 0..4 {
            let act = {
                let Scene { plan, dice, .. } = &mut self.shared.lock().scene;
                plan.act(dice)
            };
            if self.act(act).await {
                if let Some(place) = Act::FAULTS.iter().position(|fault| *fault == act) {
                    self.faults[place] += 1;
                }
                return;
            }
        }
    }

    /// Whether it was possible.
    async fn act(&mut self, act: Act) -> bool {
        match act {
            Act::Write => self.write(),
            Act::Begin => self.begin().is_some(),
            Act::Insert => self.open_writer().map(|id| self.change(id)).is_some(),
            Act::Commit => match self.writer() {
                Some(id) => self.commit(id),
                None => false,
            },
            Act::RollBack => self.writer().is_some_and(|id| {
                let server = &mut *self.shared.lock();
                let possible = server.postgres.roll_back(id);
                server.scene.tell(|| format!("{id:?} rolls back: {possible}"));
                possible
            }),
            Act::NotifyOnly => {
                self.notify("other channel", NoticeText::Probe { nonce: u32::MAX, number: 0 })
            }
            Act::Junk => {
                // A ring that nobody meant is a sweep that has nothing to flush.
                let ring = format!(r#"{{"xact_id":"{}"}}"#, 1 + self.draw(100));
                let text = [&ring, &ring, &ring, "hello", "{}"][self.draw(5)];
                self.notify("typed", NoticeText::Payload(text.to_owned()))
            }
            Act::Abort => self.begin().is_some_and(|id| {
                self.change(id);
                self.tell(|| format!("{id:?} rolls back"));
                self.shared.lock().postgres.roll_back(id)
            }),
            Act::FlushWal => {
                self.shared.lock().postgres.flush_wal();
                true
            }
            Act::Erase => {
                let Server { postgres, scene, .. } = &mut *self.shared.lock();
                let erased = if postgres.is_up() { postgres.erase() } else { 0 };
                scene.tell(|| format!("{erased} events are erased"));
                erased > 0
            }
            Act::Replicate => {
                let records = 1 + self.draw(12);
                self.shared.lock().postgres.replicate(records);
                true
            }
            Act::Recover => {
                let Server { postgres, scene, .. } = &mut *self.shared.lock();
                let is_down = !postgres.is_up();
                if is_down {
                    postgres.recover(scene.clock);
                    scene.tell(|| "the server is up".to_owned());
                }
                is_down
            }
            Act::Crash | Act::Restart | Act::Promote | Act::SetBack => self.end_server(act),
            Act::Start => {
                let place = self.draw(self.gateways.len());
                let is_gone = self.gateways[place].is_none();
                if is_gone {
                    self.start(place);
                }
                is_gone
            }
            Act::Load | Act::Connect | Act::Read | Act::Cut => self.client(act),
            Act::GoOn => {
                self.round().await;
                true
            }
            Act::Carry
            | Act::Deliver
            | Act::Reach
            | Act::CutRelay
            | Act::Wipe
            | Act::LoseNewest
            | Act::RollOver
            | Act::LoseReader
            | Act::LoseSent
            | Act::Intrude
            | Act::LoseLead => self.relay(act),
            _ => self.gateway(act).await,
        }
    }

    // The relay.

    fn relay(&self, act: Act) -> bool {
        let gateway = self.gateways[self.draw(self.gateways.len())].as_ref();
        let nonce = gateway.map(|gateway| gateway.nonce);
        let Server { relay, scene, leads, .. } = &mut *self.shared.lock();
        let dice = &mut scene.dice;
        let is_possible = match act {
            Act::Carry => relay.carry_any(dice),
            Act::Deliver => {
                let count = 1 + dice.usize(0..4);
                relay.deliver_any(count, dice)
            }
            Act::Reach => relay.come_up(),
            Act::CutRelay => {
                let gateway = nonce.filter(|_| dice.bool());
                relay.go_down(gateway, dice);
                true
            }
            Act::Wipe => {
                relay.wipe(dice);
                true
            }
            Act::LoseNewest => relay.lose_newest(dice),
            Act::RollOver => relay.roll_over(dice),
            Act::LoseReader => relay.lose_reader(dice),
            Act::LoseSent => relay.lose_sent(),
            Act::Intrude => {
                relay.append(b"hello".to_vec());
                true
            }
            _ => {
                let lead = dice.choice(&*leads);
                lead.map(|(_, session)| session.cut()).is_some()
            }
        };
        if is_possible {
            scene.tell(|| format!("the relay: {act:?}"));
        }
        is_possible
    }

    // Writers.

    fn begin(&mut self) -> Option<TransactionId> {
        let Server { postgres, scene, .. } = &mut *self.shared.lock();
        if !postgres.is_up() || postgres.writers().count() >= 6 {
            return None;
        }
        let mode = if scene.chance(scene.plan.silent_writers) {
            Mode::Silent
        } else if scene.chance(scene.plan.ring_writers) {
            Mode::Ring
        } else {
            Mode::Rows
        };
        let id = postgres.begin(mode, true);
        scene.tell(|| format!("{id:?} begins, {mode:?}"));
        Some(id)
    }

    /// Inserts a row, or updates or deletes one.
    fn change(&self, id: TransactionId) {
        let Server { postgres, scene, .. } = &mut *self.shared.lock();
        let user = user(scene.dice.usize(0..scene.plan.users));
        let large = scene.chance(scene.plan.large_rows);
        let mut before = None;
        if scene.chance(scene.plan.changes) {
            let rows = postgres.changeable(id);
            let is_deleted = scene.chance(scene.plan.deletes);
            let change = if is_deleted { Change::Deleted } else { Change::Updated };
            before = scene.dice.choice(&rows).map(|row| (*row, change));
        }
        let row = postgres.write(id, &user, before, large, clock(scene.clock));
        scene.tell(|| {
            let Written { user, key, subject, change, .. } = &postgres.written[row];
            format!(
                "{id:?} writes {row} for {user}: {change:?} of {subject}, {key:?}, large {large}"
            )
        });
    }

    fn commit(&self, id: TransactionId) -> bool {
        let progress = {
            let Server { postgres, scene, .. } = &mut *self.shared.lock();
            let progress = postgres.commit(id, scene.clock);
            scene.tell(|| format!("{id:?} commits: {progress:?}"));
            progress
        };
        if progress == Commit::Written && !self.chance(|plan| plan.slow_commits) {
            return self.commit(id);
        }
        progress != Commit::Waits
    }

    fn write(&mut self) -> bool {
        let Some(id) = self.begin() else { return false };
        for _ in 0..1 + self.draw(4) * self.draw(2) {
            self.change(id);
        }
        self.commit(id)
    }

    fn notify(&self, what: &str, text: NoticeText) -> bool {
        let id = {
            let Server { postgres, scene, .. } = &mut *self.shared.lock();
            if !postgres.is_up() {
                return false;
            }
            let id = postgres.begin(Mode::Rows, true);
            scene.tell(|| format!("{id:?} only notifies: {what}"));
            postgres.notify(id, text);
            id
        };
        self.commit(id)
    }

    fn writer(&self) -> Option<TransactionId> {
        let Server { postgres, scene, .. } = &mut *self.shared.lock();
        let writers: Vec<TransactionId> = postgres.writers().collect();
        let is_possible = postgres.is_up() && !writers.is_empty();
        is_possible.then(|| writers[scene.dice.usize(0..writers.len())])
    }

    fn open_writer(&self) -> Option<TransactionId> {
        self.writer().filter(|id| self.shared.lock().postgres.is_open(*id))
    }

    // The server.

    fn end_server(&self, how: Act) -> bool {
        let server = &mut *self.shared.lock();
        if !server.postgres.is_up() {
            return false;
        }
        server.hang_up();
        let Server { postgres, scene, .. } = server;
        scene.tell(|| format!("the server ends: {how:?}"));
        match how {
            Act::Restart => postgres.shut_down(),
            Act::Promote => postgres.promote(scene.clock),
            Act::SetBack => postgres.set_back(scene.clock),
            _ => postgres.crash(),
        }
        if !postgres.is_up() && !scene.chance(scene.plan.outages) {
            postgres.recover(scene.clock);
        }
        true
    }

    // Gateways.

    fn start(&mut self, place: usize) {
        let nonce = self.next_nonce;
        self.tell(|| format!("gateway {nonce}: starts"));
        self.gateways[place] = Some(Gateway::start(nonce, &self.metrics, &self.shared));
        self.next_nonce += 1;
    }

    fn kill(&mut self, place: usize) {
        let Some(gateway) = self.gateways[place].take() else { return };
        self.tell(|| format!("gateway {}: is killed", gateway.nonce));
        // Its transactions end with it.
        drop(gateway);
        for client in &mut self.clients {
            if client.connected.is_some_and(|(at, _)| at == place) {
                client.connected = None;
            }
        }
    }

    async fn gateway(&mut self, act: Act) -> bool {
        let place = self.draw(self.gateways.len());
        let Self { shared, gateways, .. } = self;
        let Some(gateway) = &mut gateways[place] else { return false };
        let nonce = gateway.nonce;
        match act {
            Act::Arrive => {
                let Server { postgres, scene, ears, .. } = &mut *shared.lock();
                let count = 1 + scene.dice.usize(0..4);
                ears.get_mut(&nonce).is_some_and(|ears| ears.arrive(postgres, count))
            }
            Act::Listen => go_on(shared, gateway, act, LISTEN_WAIT).await,
            Act::Sweep => {
                let has_turn = go_on(shared, gateway, act, SWEEP_WAIT).await;
                shared.lock().scene.tell(|| format!("gateway {nonce}: {}", gateway.shown()));
                has_turn
            }
            Act::Replay => go_on(shared, gateway, act, REPLAY_WAIT).await,
            Act::Append | Act::Follow => go_on(shared, gateway, act, RELAY_WAIT).await,
            Act::LoseListen => {
                let Server { postgres, scene, ears, .. } = &mut *shared.lock();
                scene.tell(|| format!("gateway {nonce}: its LISTEN breaks"));
                let is_reset = scene.dice.bool();
                match ears.get_mut(&nonce) {
                    Some(ears) if is_reset => ears.reset(postgres, scene.clock),
                    Some(ears) => ears.lose(postgres, scene.clock),
                    None => return false,
                }
                true
            }
            Act::LoseSession => {
                let scene = &mut shared.lock().scene;
                scene.tell(|| format!("gateway {nonce}: a connection breaks"));
                gateway.cut(&mut scene.dice)
            }
            Act::Kill => {
                self.kill(place);
                true
            }
            Act::Stop => {
                if gateway.is_closing {
                    self.kill(place);
                } else {
                    shared.lock().scene.tell(|| format!("gateway {nonce}: stops"));
                    gateway.close();
                }
                true
            }
            Act::Heartbeat => {
                let heartbeat = shared.lock().scene.plan.heartbeat;
                tokio::time::advance(signs(heartbeat).1).await;
                self.stream(act, place)
            }
            _ => self.stream(act, place),
        }
    }

    fn stream(&mut self, act: Act, place: usize) -> bool {
        let Some(gateway) = &mut self.gateways[place] else { return false };
        if gateway.streams.is_empty() {
            return false;
        }
        let scene = &mut self.shared.lock().scene;
        let at = scene.dice.usize(0..gateway.streams.len());
        match act {
            Act::Poll | Act::Heartbeat => gateway.poll(at, scene),
            Act::Revoke => {
                let possible = !gateway.streams[at].has_ended();
                if possible {
                    gateway.revoke(gateway.streams[at].user());
                }
                possible
            }
            Act::Forget => {
                let is_gone = !gateway.streams[at].is_read;
                if is_gone {
                    gateway.streams.remove(at);
                }
                is_gone
            }
            _ => false,
        }
    }

    // Clients.

    fn client(&mut self, act: Act) -> bool {
        let place = self.draw(self.clients.len());
        match act {
            Act::Load => {
                let Server { postgres, scene, .. } = &mut *self.shared.lock();
                let is_unflushed =
                    scene.chance(scene.plan.unflushed_lists) || !postgres.was_flushed();
                let client = &mut self.clients[place];
                let has_loaded = postgres.is_up() && client.load(postgres, is_unflushed);
                if has_loaded {
                    let (number, id) = (client.number, client.last_id().unwrap_or_default());
                    scene.tell(|| format!("client {number} loads its list: {id}"));
                }
                has_loaded
            }
            Act::Connect => {
                let at = self.draw(self.gateways.len());
                self.connect(place, at)
            }
            Act::Read => self.read(place).is_some(),
            _ => self.cut(place),
        }
    }

    fn connect(&mut self, place: usize, at: usize) -> bool {
        let client = &mut self.clients[place];
        let scene = &self.shared.lock().scene;
        let Some(gateway) = self.gateways[at].as_mut().filter(|gateway| gateway.is_ready(scene))
        else {
            return false;
        };
        if client.connected.is_some() {
            return false;
        }
        let id = self.next_stream;
        scene.tell(|| {
            let Client { number, user, .. } = client;
            format!("client {number} of {user} opens stream {id} on gateway {}", gateway.nonce)
        });
        let opened = gateway.open(id, client.user.clone(), client.last_id(), scene.clock);
        if opened.is_some() {
            self.next_stream += 1;
            client.connected = Some((at, id));
        }
        opened.is_some()
    }

    /// What the client has read.
    fn read(&mut self, place: usize) -> Option<EventKind> {
        let client = &mut self.clients[place];
        let (at, id) = client.connected?;
        let stream = self.gateways[at].as_mut().and_then(|gateway| gateway.stream(id));
        let Some(stream) = stream else {
            client.connected = None;
            return None;
        };
        let event = stream.socket.pop_front()?;
        let kind = event.kind.clone();
        let server = &*self.shared.lock();
        server.scene.tell(|| format!("client {} reads {kind:?}", client.number));
        client.read(event, &server.postgres, &mut self.book);
        if client.connected.is_none() {
            stream.is_read = false;
        }
        Some(kind)
    }

    fn cut(&mut self, place: usize) -> bool {
        let client = &mut self.clients[place];
        let Some((at, id)) = client.connected.take() else { return false };
        let scene = &mut self.shared.lock().scene;
        scene.tell(|| format!("client {} is cut off", client.number));
        if let Some(gateway) = &mut self.gateways[at]
            && let Some(stream) = gateway.stream(id)
        {
            stream.is_read = false;
            // It may know at once, or never.
            if scene.dice.bool() {
                gateway.streams.retain(|stream| stream.id != id);
            }
        }
        true
    }

    // The end.

    /// Mends everything, lets it come to rest, cuts everybody once more, and
    /// judges.
    async fn heal(&mut self) {
        self.is_healing = true;
        {
            let Server { postgres, scene, relay, .. } = &mut *self.shared.lock();
            scene.tell(|| "everything is mended".to_owned());
            relay.come_up();
            relay.behave();
            if let Some(plan) = &mut scene.plan.relay {
                plan.double_leads = 0;
                if plan.is_gone {
                    relay.go_down(None, &mut scene.dice);
                }
            }
            if !postgres.is_up() {
                postgres.recover(scene.clock);
            }
        }
        for place in 0..self.gateways.len() {
            if self.gateways[place].as_ref().is_some_and(|gateway| gateway.is_closing) {
                self.kill(place);
            }
            if self.gateways[place].is_none() {
                self.start(place);
            }
        }
        let mut at_rest = self.settle().await;
        // What the last cursors say is seen only by who comes back with them.
        for place in 0..self.clients.len() {
            self.cut(place);
        }
        at_rest &= self.settle().await;
        for place in 0..self.clients.len() {
            if !self.is_live(place) || !at_rest {
                self.book.violations.push((Violation::Stuck, format!("client {place}")));
            }
            self.clients[place].end(&self.shared.lock().postgres, &mut self.book);
        }
    }

    fn is_live(&mut self, place: usize) -> bool {
        self.clients[place].connected.is_some_and(|(at, id)| {
            let stream = self.gateways[at].as_mut().and_then(|gateway| gateway.stream(id));
            stream.is_some_and(|stream| stream.is_idle())
        })
    }

    fn end_writers(&self) {
        let writers: Vec<TransactionId> = self.shared.lock().postgres.writers().collect();
        // The one that is committing holds the others up.
        for is_open in [false, true] {
            for id in &writers {
                let Server { postgres, scene, .. } = &mut *self.shared.lock();
                if !postgres.runs(*id) || postgres.is_open(*id) != is_open {
                    continue;
                }
                if is_open && scene.dice.bool() {
                    postgres.roll_back(*id);
                    continue;
                }
                // Another one that commits may be in between; it goes on by itself.
                while postgres.runs(*id) && postgres.commit(*id, scene.clock) == Commit::Written {}
            }
        }
    }

    /// Everything goes on until nothing has come for a while; `false` if that
    /// never is.
    async fn settle(&mut self) -> bool {
        let calm_rounds = if self.has_relay() { RELAYED_CALM_ROUNDS } else { CALM_ROUNDS };
        let mut calm = 0;
        for _ in 0..MAX_ROUNDS {
            let has_moved = self.round().await;
            let is_live = (0..self.clients.len()).all(|place| self.is_live(place));
            calm = if has_moved || !is_live { 0 } else { calm + 1 };
            if calm >= calm_rounds {
                return true;
            }
        }
        false
    }

    /// The relay takes and gives what there is.
    fn pass_messages(&self) {
        let Server { relay, scene, .. } = &mut *self.shared.lock();
        relay.carry_all(&mut scene.dice);
        relay.deliver_all(&mut scene.dice);
    }

    /// Everything goes on for a while; whether a client was told anything new.
    async fn round(&mut self) -> bool {
        self.shared.lock().scene.clock += 1;
        if self.is_healing {
            self.end_writers();
        }
        let time = if self.has_relay() { RELAYED_ROUND } else { ROUND };
        tokio::time::advance(time).await;
        self.pass_messages();
        for place in 0..self.gateways.len() {
            let Self { shared, gateways, .. } = self;
            let Some(gateway) = &mut gateways[place] else { continue };
            {
                let Server { postgres, ears, .. } = &mut *shared.lock();
                if let Some(ears) = ears.get_mut(&gateway.nonce) {
                    ears.arrive(postgres, usize::MAX);
                }
            }
            let mut dice = shared.lock().scene.dice.fork();
            gateway.finish(&mut dice);
            let scene = &shared.lock().scene;
            for at in 0..gateway.streams.len() {
                gateway.poll(at, scene);
            }
            gateway.streams.retain(|stream| stream.is_read);
        }
        let mut has_moved = false;
        for place in 0..self.clients.len() {
            while let Some(kind) = self.read(place) {
                has_moved |= kind != EventKind::Heartbeat;
            }
            if self.clients[place].connected.is_none() {
                let at = self.draw(self.gateways.len());
                self.connect(place, at);
            }
        }
        has_moved
    }
}

/// A part goes on, and its clock while it does not wait for the database or the relay.
async fn go_on(shared: &Shared, gateway: &mut Gateway, act: Act, longest: Duration) -> bool {
    let (mut dice, pace, burst) = {
        let scene = &mut shared.lock().scene;
        let relay = scene.plan.relay;
        let (pace, burst) = relay.map_or((100, 1), |relay| (relay.pace, relay.burst));
        (scene.dice.fork(), f64::from(pace) / 100.0, burst)
    };
    let Some((part, kind)) = gateway.part(act, &mut dice) else { return false };
    if !part.is_waiting(kind) {
        tokio::time::advance(longest.mul_f64(dice.f64() * pace)).await;
    }
    let mut has_turn = part.go_on(kind, &mut dice);
    for _ in 1..1 + dice.usize(0..burst) {
        has_turn |= part.go_on(kind, &mut dice);
    }
    has_turn
}

fn user(number: usize) -> UserId {
    UserId::uuid(Uuid::from_u128(number as u128))
}
