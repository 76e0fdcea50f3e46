//! One process of the gateway: its own hub, dispatcher, sweeper, replayer,
//! listener and streams, polled when the dice say so.

use std::{sync::Arc, time::Duration};

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
    part::Part,
    plan::Act,
    relayed,
    sabotage::Sabotage,
    scene::Scene,
    server::{Server, Shared},
    stream::{GivenRows, Stream},
    turns::Turns,
};

/// Time between two sweeps.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// While the triggers are quiet.
pub const QUIET_INTERVAL: Duration = Duration::from_millis(25);
/// Transactions a second past which they are.
pub const QUIET_ABOVE: u32 = 6;

/// Queries of replays that may be on their way at once.
const CONCURRENCY: usize = 2;

/// A process.
pub struct Gateway {
    /// Names it; one that is started anew has another.
    pub nonce: u32,
    /// Its open responses.
    pub streams: Vec<Stream>,
    tasks: Tasks,
    replayer: Part,
    /// Whether it says goodbye.
    pub is_closing: bool,
    hub: Arc<Hub>,
    health: Arc<Health>,
    context: Arc<StreamContext>,
    given: GivenRows,
}

/// What brings the streams their rows.
enum Tasks {
    /// A LISTEN connection and sweeps of its own.
    Direct { listener: Part, sweeper: Part },
    /// A relay: what follows a source, and mostly what may be one.
    Relayed { edge: Part, source: Option<Part> },
}

impl Gateway {
    /// A process that has just started.
    pub fn start(nonce: u32, metrics: &Arc<Metrics>, shared: &Shared) -> Self {
        let plan = shared.lock().scene.plan.clone();
        let queued_rows = plan.queue_events;
        let hub = Hub::new(HubLimits { queued_rows, streams: 1000, streams_per_user: 1000 });
        let is_source = plan.relay.map(|relay| {
            let Server { scene, .. } = &mut *shared.lock();
            !scene.chance(relay.edges_only)
        });
        let health =
            Arc::new(is_source.map_or_else(Health::new, |is| Health::with_relay(true, is)));
        // Nobody is revoked here, and streams are opened only once that is known.
        health.revocations_are_known();
        let tasks = match is_source {
            None => direct(nonce, &hub, &health, metrics, shared),
            Some(is_source) => Tasks::Relayed {
                edge: relayed::edge(nonce, &hub, &health, metrics, shared),
                source: is_source.then(|| relayed::source(nonce, &health, metrics, shared)),
            },
        };
        let replays = Arc::new(Replays::default());

        let turns = Turns::default();
        let replayer = Replayer {
            replays: Arc::clone(&replays),
            store: Database::for_replays(Arc::clone(shared), turns.clone(), nonce),
            hub: Arc::clone(&hub),
            health: Arc::clone(&health),
            metrics: Arc::clone(metrics),
            concurrency: CONCURRENCY,
        };
        let replayer = Part::new(vec![turns], async move { match replayer.run().await {} });
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
            tasks,
            replayer,
            is_closing: false,
            hub,
            health,
            context: Arc::new(context),
            given: GivenRows::default(),
        }
    }

    /// The part that goes on by `act`, and with what kind of turn.
    pub fn part(&mut self, act: Act, dice: &mut fastrand::Rng) -> Option<(&mut Part, usize)> {
        if act == Act::Replay {
            return Some((&mut self.replayer, 0));
        }
        match (&mut self.tasks, act) {
            (Tasks::Direct { listener, .. }, Act::Listen) => Some((listener, 0)),
            (Tasks::Direct { sweeper, .. }, Act::Sweep) => Some((sweeper, 0)),
            (Tasks::Direct { .. }, _) => None,
            (Tasks::Relayed { edge, .. }, Act::Follow) => Some((edge, relayed::RELAY)),
            (Tasks::Relayed { edge, source }, Act::Sweep) => {
                let source = source.as_mut().filter(|_| dice.bool());
                Some((source.unwrap_or(edge), relayed::STORE))
            }
            (Tasks::Relayed { source, .. }, Act::Listen) => {
                source.as_mut().map(|source| (source, relayed::LISTEN))
            }
            (Tasks::Relayed { source, .. }, _) => {
                source.as_mut().map(|source| (source, relayed::RELAY))
            }
        }
    }

    /// All its parts go on until they wait for their clock.
    pub fn finish(&mut self, dice: &mut fastrand::Rng) {
        match &mut self.tasks {
            Tasks::Direct { listener, sweeper } => {
                listener.finish(dice);
                sweeper.finish(dice);
            }
            Tasks::Relayed { edge, source } => {
                if let Some(source) = source {
                    source.finish(dice);
                }
                edge.finish(dice);
            }
        }
        self.replayer.finish(dice);
    }

    /// A connection to the database breaks, or another; `false`: the part has none.
    pub fn cut(&self, dice: &mut fastrand::Rng) -> bool {
        let is_replay = !dice.bool();
        match &self.tasks {
            _ if is_replay => self.replayer.cut(dice),
            Tasks::Direct { sweeper, .. } => sweeper.cut(dice),
            Tasks::Relayed { edge, source } => match source {
                Some(source) if dice.bool() => source.cut(dice),
                _ => edge.cut(dice),
            },
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

/// A listener and a sweeper for these streams alone.
fn direct(
    nonce: u32,
    hub: &Arc<Hub>,
    health: &Arc<Health>,
    metrics: &Arc<Metrics>,
    shared: &Shared,
) -> Tasks {
    let quiet = shared.lock().scene.plan.quiet;
    let load = Arc::new(Load::new(quiet, QUIET_ABOVE));
    let dispatcher = Dispatcher::new(Arc::clone(hub), Arc::clone(metrics), Arc::clone(&load));
    let dispatch = Arc::new(Dispatch::new(dispatcher));
    let restart = Arc::new(Restart::default());
    let turns = Turns::default();
    let listener = Listener {
        listen: Hearing { shared: Arc::clone(shared), turns: turns.clone(), nonce },
        restart: Arc::clone(&restart),
        dispatch: Arc::clone(&dispatch),
        health: Arc::clone(health),
        metrics: Arc::clone(metrics),
    };
    let listener = Part::new(vec![turns], async move {
        let Err(error) = listener.run().await;
        unreachable!("{error}");
    });
    let turns = Turns::default();
    let sweeper = Sweeper {
        store: Database::for_sweeps(Arc::clone(shared), turns.clone(), nonce),
        audience: Arc::clone(hub),
        dispatch,
        looks: Arc::new(Looks::new()),
        health: Arc::clone(health),
        metrics: Arc::clone(metrics),
        swept: Arc::default(),
        restart,
        interval: SWEEP_INTERVAL,
        quiet_interval: QUIET_INTERVAL,
        load,
        nonce: Some(nonce.to_string()),
    };
    let sweeper = Part::new(vec![turns], async move { match sweeper.run().await {} });
    Tasks::Direct { listener, sweeper }
}
