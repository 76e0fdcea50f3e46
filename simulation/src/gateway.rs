//! One process of the gateway: its own hub, dispatcher, sweeper, replayer,
//! listener and streams, polled when the dice say so.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use notify_gateway::{
    dispatch::{Dispatch, Dispatcher},
    ends::RecentEnds,
    health::Health,
    hub::{Hub, HubLimits},
    listener::{Listener, Restart},
    looks::Looks,
    metrics::Metrics,
    notification::UserId,
    outcome::StreamEnd,
    quiet::Load,
    replay::{Replayer, Replays},
    revocation::Revocation,
    stream::{ENOUGH, StreamContext},
    sweep::Sweeper,
};

use crate::{
    database::{Database, Hearing},
    sabotage::Sabotage,
    scene::Scene,
    server::Shared,
    stream::{GivenRows, Stream},
    turns::Turns,
};

/// Time between two sweeps.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// While the triggers are quiet.
const QUIET_INTERVAL: Duration = Duration::from_millis(25);
/// Transactions a second past which they are.
const QUIET_ABOVE: u32 = 6;

/// Queries of replays that may be on their way at once.
const CONCURRENCY: usize = 2;

/// A process.
pub struct Gateway {
    /// Names it; one that is started anew has another.
    pub nonce: u32,
    /// Its open responses.
    pub streams: Vec<Stream>,
    /// Its LISTEN connection.
    pub listener: Part,
    /// Its sweeps.
    pub sweeper: Part,
    /// Its replays.
    pub replayer: Part,
    /// Whether it says goodbye.
    pub is_closing: bool,
    hub: Arc<Hub>,
    health: Arc<Health>,
    context: Arc<StreamContext>,
    given: GivenRows,
}

/// A task of a gateway.
pub struct Part {
    turns: Turns,
    task: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Part {
    fn new(turns: Turns, task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { turns, task: Box::pin(task) }
    }

    /// Whether it waits for the database.
    pub fn is_waiting(&self) -> bool {
        self.turns.are_wanted()
    }

    /// Goes on, with a turn for one of its queries; `false`: none waits for one.
    pub fn go_on(&mut self, dice: &mut fastrand::Rng) -> bool {
        let has_turn = self.turns.give(dice);
        let ended = self.task.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(ended.is_pending(), "it never ends");
        has_turn
    }

    /// Goes on until it waits for its clock.
    pub fn finish(&mut self, dice: &mut fastrand::Rng) {
        const MOST: usize = 200;
        for _ in 0..MOST {
            if !self.go_on(dice) && !self.is_waiting() {
                return;
            }
        }
    }

    /// One of its connections breaks; `false`: it has none.
    pub fn cut(&self, dice: &mut fastrand::Rng) -> bool {
        self.turns.cut(dice)
    }
}

impl Gateway {
    /// A process that has just started.
    pub fn start(nonce: u32, metrics: &Arc<Metrics>, shared: &Shared) -> Self {
        let plan = shared.lock().scene.plan.clone();
        let queued_rows = plan.queue_events;
        let hub = Hub::new(HubLimits { queued_rows, streams: 1000, streams_per_user: 1000 });
        let health = Arc::new(Health::new());
        // Nobody is revoked here, and streams are opened only once that is known.
        health.revocations_are_known();
        let load = Arc::new(Load::new(plan.quiet, QUIET_ABOVE));
        let dispatcher = Dispatcher::new(Arc::clone(&hub), Arc::clone(metrics), Arc::clone(&load));
        let dispatch = Arc::new(Dispatch::new(dispatcher));
        let restart = Arc::new(Restart::default());
        let replays = Arc::new(Replays::default());

        let turns = Turns::default();
        let hearing = Hearing { shared: Arc::clone(shared), turns: turns.clone(), nonce };
        let listener = Listener {
            listen: hearing,
            restart: Arc::clone(&restart),
            dispatch: Arc::clone(&dispatch),
            health: Arc::clone(&health),
            metrics: Arc::clone(metrics),
        };
        let listener = Part::new(turns, async move {
            let Err(error) = listener.run().await;
            unreachable!("{error}");
        });
        let turns = Turns::default();
        let sweeper = Sweeper {
            store: Database::for_sweeps(Arc::clone(shared), turns.clone(), nonce),
            audience: Arc::clone(&hub),
            dispatch,
            looks: Arc::new(Looks::new()),
            health: Arc::clone(&health),
            metrics: Arc::clone(metrics),
            swept: Arc::default(),
            restart,
            interval: SWEEP_INTERVAL,
            quiet_interval: QUIET_INTERVAL,
            load,
            nonce: Some(nonce.to_string()),
        };
        let sweeper = Part::new(turns, async move { match sweeper.run().await {} });
        let turns = Turns::default();
        let replayer = Replayer {
            replays: Arc::clone(&replays),
            store: Database::for_replays(Arc::clone(shared), turns.clone(), nonce),
            hub: Arc::clone(&hub),
            health: Arc::clone(&health),
            metrics: Arc::clone(metrics),
            concurrency: CONCURRENCY,
        };
        let replayer = Part::new(turns, async move { match replayer.run().await {} });
        let context = StreamContext {
            metrics: Arc::clone(metrics),
            ends: RecentEnds::default(),
            replays,
            replay_limit: u32::try_from(plan.replay_limit).unwrap_or(u32::MAX),
            heartbeat: plan.heartbeat,
            // With a small socket each event is a step of its own.
            enough: if plan.socket_events < 1000 { 1 } else { ENOUGH },
            retry: Duration::from_secs(1),
            drain: Duration::from_secs(1),
            max_age: None,
        };
        Self {
            nonce,
            streams: Vec::new(),
            listener,
            sweeper,
            replayer,
            is_closing: false,
            hub,
            health,
            context: Arc::new(context),
            given: GivenRows::default(),
        }
    }

    /// Whether it takes streams.
    pub fn is_ready(&self, scene: &Scene) -> bool {
        let is_ready = self.health.has_been_ready() || scene.is_without(Sabotage::Readiness);
        is_ready && !self.is_closing
    }

    /// Opens a stream. `None`: it is stopping.
    pub fn open(&mut self, id: u64, user: UserId, resumed: Option<&str>, clock: u64) -> Option<()> {
        let subscription = self.hub.subscribe(user, None).ok()?;
        let context = Arc::clone(&self.context);
        self.streams.push(Stream::open(id, context, subscription, resumed, clock));
        Some(())
    }

    /// The stream `id`.
    pub fn stream(&mut self, id: u64) -> Option<&mut Stream> {
        self.streams.iter_mut().find(|stream| stream.id == id)
    }

    /// A stream goes on.
    pub fn poll(&mut self, place: usize, scene: &Scene) -> bool {
        let Self { streams, given, .. } = self;
        streams[place].poll(given, scene)
    }

    /// The streams of `user` are ended, as by a revocation.
    pub fn revoke(&self, user: UserId) {
        self.hub.revoke(&Revocation { user, before: f64::INFINITY });
    }

    /// It says goodbye to its streams and takes no more.
    pub fn close(&mut self) {
        self.is_closing = true;
        self.hub.close(StreamEnd::Shutdown);
    }

    /// For the trace: how far it is.
    pub fn shown(&self) -> String {
        let horizon = self.hub.horizon();
        format!("epoch {}, watermark {}", horizon.epochs.current(), horizon.watermark)
    }
}
