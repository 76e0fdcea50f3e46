//! One history: a world, its steps, its healing, the judgement.

use std::sync::Arc;

use notify_gateway::{metrics::Metrics, notification::UserId, outcome::StreamEnd};
use uuid::Uuid;

use crate::{
    client::Client,
    gateway::Gateway,
    oracle::Book,
    plan::{Act, Plan},
    postgres::{Commit, Mode, NoticeText, Postgres, TransactionId},
    sabotage::Sabotage,
    scene::Scene,
};

/// Beats of every gateway once it follows the right history: one sweeps, one
/// finds what came in meanwhile, one that all is well.
const HEALING_BEATS: usize = 3;

/// After this many rounds in which something moves, nothing ever comes to rest.
const MAX_ROUNDS: usize = 3_000;

/// How a history is to be run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Decides everything.
    pub seed: u64,
    /// The safeguard that is missing.
    pub without: Option<Sabotage>,
    /// Leave off after so many steps and heal.
    pub steps: Option<usize>,
    /// Tell every step.
    pub trace: bool,
}

/// What has come of it.
pub struct Outcome {
    /// What the clients have seen.
    pub book: Book,
    /// How many steps it had before the healing.
    pub steps: usize,
    /// How often each of [`Act::FAULTS`] has happened.
    pub faults: [u64; Act::FAULTS.len()],
}

/// Runs one history.
pub fn run(options: Options, metrics: &Arc<Metrics>) -> Outcome {
    let mut dice = fastrand::Rng::with_seed(options.seed);
    let plan = Plan::new(&mut dice);
    let steps = plan.steps.min(options.steps.unwrap_or(usize::MAX));
    let mut world = World::new(dice, plan, options, metrics);
    for _ in 0..steps {
        world.step();
    }
    world.heal();
    let World { book, faults, .. } = world;
    Outcome { book, steps, faults }
}

struct World {
    scene: Scene,
    metrics: Arc<Metrics>,
    postgres: Postgres,
    gateways: Vec<Option<Gateway>>,
    clients: Vec<Client>,
    next_nonce: u32,
    next_stream: u64,
    is_healing: bool,
    book: Book,
    faults: [u64; Act::FAULTS.len()],
}

impl World {
    fn new(dice: fastrand::Rng, plan: Plan, options: Options, metrics: &Arc<Metrics>) -> Self {
        let Options { without, trace, .. } = options;
        let postgres = Postgres::new(plan.first_xact, plan.seq_lookahead);
        let clients =
            (0..plan.clients).map(|number| Client::new(number, user(number % plan.users)));
        let clients = clients.collect();
        let mut world = Self {
            postgres,
            gateways: (0..plan.gateways).map(|_| None).collect(),
            clients,
            next_nonce: 0,
            next_stream: 0,
            is_healing: false,
            book: Book::default(),
            faults: [0; Act::FAULTS.len()],
            metrics: Arc::clone(metrics),
            scene: Scene { dice, plan, without, clock: 0, trace },
        };
        for place in 0..world.gateways.len() {
            world.start(place);
        }
        if world.scene.plan.starts_ready {
            while !world.gateways.iter().flatten().all(|gateway| gateway.is_ready(&world.scene)) {
                world.beat_all();
                world.settle();
            }
            // The standby was made of what there was.
            world.postgres.replicate(usize::MAX);
        }
        world
    }

    fn step(&mut self) {
        self.scene.clock += 1;
        // One that is not possible now gives way to another.
        for _ in 0..4 {
            let act = self.scene.plan.act(&mut self.scene.dice);
            if self.act(act) {
                if let Some(place) = Act::FAULTS.iter().position(|fault| *fault == act) {
                    self.faults[place] += 1;
                }
                return;
            }
        }
    }

    /// Whether it was possible.
    fn act(&mut self, act: Act) -> bool {
        match act {
            Act::Write => self.write(),
            Act::Begin => self.begin().is_some(),
            Act::Insert => self.open_writer().map(|id| self.insert(id)).is_some(),
            Act::Commit => match self.writer() {
                Some(id) => self.commit(id),
                None => false,
            },
            Act::RollBack => self.writer().is_some_and(|id| {
                let possible = self.postgres.roll_back(id);
                self.scene.tell(|| format!("{id:?} rolls back: {possible}"));
                possible
            }),
            Act::NotifyOnly => {
                self.notify("other channel", NoticeText::Probe { nonce: u32::MAX, number: 0 })
            }
            Act::Junk => {
                let text = ["hello", "", "{}"][self.scene.dice.usize(0..3)];
                self.notify("typed", NoticeText::Payload(text.to_owned()))
            }
            Act::Abort => self.begin().is_some_and(|id| {
                self.insert(id);
                self.scene.tell(|| format!("{id:?} rolls back"));
                self.postgres.roll_back(id)
            }),
            Act::FlushWal => {
                self.postgres.flush_wal();
                true
            }
            Act::Replicate => {
                self.postgres.replicate(1 + self.scene.dice.usize(0..12));
                true
            }
            Act::Recover => {
                let is_down = !self.postgres.is_up();
                if is_down {
                    self.postgres.recover(self.scene.clock);
                    self.scene.tell(|| "the server is up".to_owned());
                }
                is_down
            }
            Act::Crash | Act::Restart | Act::Promote => self.end_server(act),
            Act::Start => {
                let place = self.scene.dice.usize(0..self.gateways.len());
                self.gateways[place].is_none() && self.start(place)
            }
            Act::Connect | Act::Read | Act::Cut => self.client(act),
            _ => self.gateway(act),
        }
    }

    // Writers.

    fn begin(&mut self) -> Option<TransactionId> {
        if !self.postgres.is_up() || self.postgres.writers().count() >= 6 {
            return None;
        }
        let mode = if self.scene.chance(self.scene.plan.silent_writers) {
            Mode::Silent
        } else if self.scene.chance(self.scene.plan.ring_writers) {
            Mode::Ring
        } else {
            Mode::Rows
        };
        let id = self.postgres.begin(mode, true);
        self.scene.tell(|| format!("{id:?} begins, {mode:?}"));
        Some(id)
    }

    fn insert(&mut self, id: TransactionId) {
        let user = user(self.scene.dice.usize(0..self.scene.plan.users));
        let large = self.scene.chance(self.scene.plan.large_rows);
        let silent = self.scene.chance(self.scene.plan.silent_rows);
        let row = self.postgres.insert(id, &user, large, silent);
        self.scene.tell(|| {
            let key = self.postgres.written[row].key;
            format!("{id:?} inserts row {row} for {user}: {key:?}, large {large}, silent {silent}")
        });
    }

    fn commit(&mut self, id: TransactionId) -> bool {
        let progress = self.postgres.commit(id, self.scene.clock);
        self.scene.tell(|| format!("{id:?} commits: {progress:?}"));
        if progress == Commit::Written && !self.scene.chance(self.scene.plan.slow_commits) {
            return self.commit(id);
        }
        progress != Commit::Waits
    }

    fn write(&mut self) -> bool {
        let Some(id) = self.begin() else { return false };
        for _ in 0..1 + self.scene.dice.usize(0..4) * self.scene.dice.usize(0..2) {
            self.insert(id);
        }
        self.commit(id)
    }

    fn notify(&mut self, what: &str, text: NoticeText) -> bool {
        if !self.postgres.is_up() {
            return false;
        }
        let id = self.postgres.begin(Mode::Rows, true);
        self.scene.tell(|| format!("{id:?} only notifies: {what}"));
        self.postgres.notify(id, text);
        self.commit(id)
    }

    fn writer(&mut self) -> Option<TransactionId> {
        let writers: Vec<TransactionId> = self.postgres.writers().collect();
        let is_possible = self.postgres.is_up() && !writers.is_empty();
        is_possible.then(|| writers[self.scene.dice.usize(0..writers.len())])
    }

    fn open_writer(&mut self) -> Option<TransactionId> {
        self.writer().filter(|id| self.postgres.is_open(*id))
    }

    // The server.

    fn end_server(&mut self, how: Act) -> bool {
        if !self.postgres.is_up() {
            return false;
        }
        let clock = self.scene.clock;
        for gateway in self.gateways.iter_mut().flatten() {
            gateway.listener.lose(&self.postgres, clock);
        }
        self.scene.tell(|| format!("the server ends: {how:?}"));
        match how {
            Act::Restart => self.postgres.shut_down(),
            Act::Promote => self.postgres.promote(clock),
            _ => self.postgres.crash(),
        }
        if how != Act::Promote && !self.scene.chance(self.scene.plan.outages) {
            self.postgres.recover(clock);
        }
        true
    }

    // Gateways.

    fn start(&mut self, place: usize) -> bool {
        let gateway = Gateway::start(self.next_nonce, &self.metrics, &self.scene);
        self.next_nonce += 1;
        self.gateways[place] = Some(gateway);
        true
    }

    fn kill(&mut self, place: usize) {
        let Some(mut gateway) = self.gateways[place].take() else { return };
        self.scene.tell(|| format!("gateway {}: is killed", gateway.nonce));
        gateway.beat.kill(&mut self.postgres);
        for client in &mut self.clients {
            if client.connected.is_some_and(|(at, _)| at == place) {
                client.connected = None;
            }
        }
    }

    fn gateway(&mut self, act: Act) -> bool {
        let place = self.scene.dice.usize(0..self.gateways.len());
        let Self { postgres, scene, .. } = self;
        let Some(gateway) = &mut self.gateways[place] else { return false };
        match act {
            Act::Arrive => {
                let count = 1 + scene.dice.usize(0..4);
                gateway.listener.arrive(postgres, count)
            }
            Act::Listen => gateway.step_listener(postgres, scene),
            Act::Beat => gateway.step_beat(postgres, scene),
            Act::Dispatch => gateway.dispatch(scene),
            Act::Replay => gateway.step_replays(postgres, scene),
            Act::LoseListen => {
                scene.tell(|| format!("gateway {}: its LISTEN breaks", gateway.nonce));
                if scene.dice.bool() {
                    gateway.listener.lose(postgres, scene.clock);
                } else {
                    gateway.listener.reset(postgres, scene.clock);
                }
                true
            }
            Act::LoseSession => {
                scene.tell(|| format!("gateway {}: a connection breaks", gateway.nonce));
                if scene.dice.bool() {
                    gateway.beat.cut();
                    true
                } else {
                    gateway.replays.cut(scene)
                }
            }
            Act::Kill => {
                self.kill(place);
                true
            }
            Act::Stop => {
                if gateway.is_closing {
                    self.kill(place);
                } else {
                    scene.tell(|| format!("gateway {}: stops", gateway.nonce));
                    gateway.close();
                }
                true
            }
            _ => self.stream(act, place),
        }
    }

    fn stream(&mut self, act: Act, place: usize) -> bool {
        let Self { scene, .. } = self;
        let Some(gateway) = &mut self.gateways[place] else { return false };
        if gateway.streams.is_empty() {
            return false;
        }
        let at = scene.dice.usize(0..gateway.streams.len());
        match act {
            Act::Poll => gateway.poll(at, scene),
            Act::Heartbeat => gateway.streams[at].heartbeat(scene),
            Act::Expire => {
                let stream = &mut gateway.streams[at];
                let possible = !stream.has_ended();
                if possible {
                    stream.close(StreamEnd::TokenExpired, scene);
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
        let place = self.scene.dice.usize(0..self.clients.len());
        match act {
            Act::Connect => {
                let at = self.scene.dice.usize(0..self.gateways.len());
                self.connect(place, at)
            }
            Act::Read => self.read(place),
            _ => self.cut(place),
        }
    }

    fn connect(&mut self, place: usize, at: usize) -> bool {
        let client = &mut self.clients[place];
        let Some(gateway) =
            self.gateways[at].as_mut().filter(|gateway| gateway.is_ready(&self.scene))
        else {
            return false;
        };
        if client.connected.is_some() {
            return false;
        }
        let id = self.next_stream;
        self.scene.tell(|| {
            let Client { number, user, .. } = client;
            format!("client {number} of {user} opens stream {id} on gateway {}", gateway.nonce)
        });
        if gateway.open(id, client.user.clone(), client.last_id.as_deref(), &self.scene).is_none() {
            return false;
        }
        self.next_stream += 1;
        client.connected = Some((at, id));
        true
    }

    fn read(&mut self, place: usize) -> bool {
        let client = &mut self.clients[place];
        let Some((at, id)) = client.connected else { return false };
        let stream = self.gateways[at].as_mut().and_then(|gateway| gateway.stream(id));
        let Some(stream) = stream else {
            client.connected = None;
            return false;
        };
        let Some(event) = stream.socket.pop_front() else { return false };
        self.scene.tell(|| format!("client {} reads {:?}", client.number, event.kind));
        client.read(event, &self.postgres, &mut self.book);
        if client.connected.is_none() {
            stream.is_read = false;
        }
        true
    }

    fn cut(&mut self, place: usize) -> bool {
        let client = &mut self.clients[place];
        let Some((at, id)) = client.connected.take() else { return false };
        self.scene.tell(|| format!("client {} is cut off", client.number));
        if let Some(gateway) = &mut self.gateways[at]
            && let Some(stream) = gateway.stream(id)
        {
            stream.is_read = false;
            // It may know at once, or never.
            if self.scene.dice.bool() {
                gateway.streams.retain(|stream| stream.id != id);
            }
        }
        true
    }

    // The end.

    /// Mends everything, lets it come to rest, cuts everybody once more, and
    /// judges.
    fn heal(&mut self) {
        self.scene.clock += 1;
        self.scene.tell(|| "everything is mended".to_owned());
        self.scene.plan.due_flushes = 100;
        self.is_healing = true;
        if !self.postgres.is_up() {
            self.postgres.recover(self.scene.clock);
        }
        for place in 0..self.gateways.len() {
            if self.gateways[place].as_ref().is_some_and(|gateway| gateway.is_closing) {
                self.kill(place);
            }
            if self.gateways[place].is_none() {
                self.start(place);
            }
        }
        // Pages are refused until the beat has found out which history it is.
        self.beat_all();
        self.beat_all();
        let mut at_rest = true;
        for _ in 0..HEALING_BEATS {
            self.beat_all();
            at_rest = self.settle();
        }
        // What the last cursors say is seen only by who comes back with them.
        for gateway in self.gateways.iter_mut().flatten() {
            for stream in &mut gateway.streams {
                stream.heartbeat(&self.scene);
            }
        }
        at_rest &= self.settle();
        for place in 0..self.clients.len() {
            self.cut(place);
        }
        for _ in 0..2 {
            at_rest &= self.settle();
            self.beat_all();
        }
        at_rest &= self.settle();
        for place in 0..self.clients.len() {
            let is_live = self.clients[place].connected.is_some_and(|(at, id)| {
                let stream = self.gateways[at].as_mut().and_then(|gateway| gateway.stream(id));
                stream.is_some_and(|stream| stream.is_idle())
            });
            if !is_live || !at_rest {
                let text = format!("client {place}");
                self.book.violations.push((crate::oracle::Violation::Stuck, text));
            }
            self.clients[place].end(&self.postgres, &mut self.book);
        }
    }

    fn end_writers(&mut self) {
        let writers: Vec<TransactionId> = self.postgres.writers().collect();
        // The one that is committing holds the others up.
        for is_open in [false, true] {
            for id in &writers {
                if self.postgres.is_open(*id) == is_open
                    && self.postgres.writers().any(|w| w == *id)
                {
                    self.end_writer(*id);
                }
            }
        }
    }

    fn end_writer(&mut self, id: TransactionId) {
        if self.postgres.is_open(id) && self.scene.dice.bool() {
            self.postgres.roll_back(id);
            return;
        }
        for _ in 0..2 {
            match self.postgres.commit(id, self.scene.clock) {
                Commit::Done => return,
                Commit::Written => {}
                // A probe is in between; it goes on by itself.
                Commit::Waits => {
                    self.postgres.roll_back(id);
                    return;
                }
            }
        }
    }

    /// One beat of every gateway, to its end.
    fn beat_all(&mut self) {
        let mut resting = vec![false; self.gateways.len()];
        for _ in 0..40 {
            if self.is_healing {
                // A probe whose connection broke is nobody's transaction now.
                self.end_writers();
            }
            for (place, resting) in resting.iter_mut().enumerate() {
                let Some(gateway) = &mut self.gateways[place] else { continue };
                if !*resting {
                    self.scene.clock += 1;
                    gateway.step_beat(&mut self.postgres, &mut self.scene);
                    *resting = gateway.beat.rests();
                }
            }
        }
    }

    /// Everything but the beats goes on until nothing moves; `false` if it
    /// never does.
    fn settle(&mut self) -> bool {
        for _ in 0..MAX_ROUNDS {
            self.scene.clock += 1;
            let mut moved = false;
            for place in 0..self.gateways.len() {
                let Self { postgres, scene, .. } = self;
                let Some(gateway) = &mut self.gateways[place] else { continue };
                moved |= gateway.listener.arrive(postgres, usize::MAX);
                moved |= gateway.step_listener(postgres, scene);
                moved |= gateway.dispatch(scene);
                moved |= gateway.step_replays(postgres, scene);
                for at in 0..gateway.streams.len() {
                    moved |= gateway.poll(at, scene);
                }
                gateway.streams.retain(|stream| stream.is_read);
            }
            for place in 0..self.clients.len() {
                moved |= self.read(place);
                if self.clients[place].connected.is_none() {
                    let at = self.scene.dice.usize(0..self.gateways.len());
                    moved |= self.connect(place, at);
                }
            }
            if !moved {
                return true;
            }
        }
        false
    }
}

fn user(number: usize) -> UserId {
    UserId::uuid(Uuid::from_u128(number as u128))
}
