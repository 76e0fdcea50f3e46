//! One process of the gateway: the real hub and dispatcher, and the machines
//! that feed them.

use std::{collections::VecDeque, sync::Arc};

use notify_gateway::{
    dispatch::{Dispatcher, Signal},
    health::Health,
    hub::{Hub, HubLimits},
    metrics::Metrics,
    notification::UserId,
    outcome::StreamEnd,
};

use crate::{
    beat::{Beat, Reach},
    listener::Listener,
    postgres::Postgres,
    replay::Replays,
    sabotage::Sabotage,
    scene::Scene,
    stream::{Shared, Stream},
};

/// A process.
pub struct Gateway {
    /// Names it; one that is started anew has another.
    pub nonce: u32,
    /// Its open responses.
    pub streams: Vec<Stream>,
    /// Its LISTEN connection.
    pub listener: Listener,
    /// Its beat.
    pub beat: Beat,
    /// Its replayer.
    pub replays: Replays,
    /// Whether it says goodbye.
    pub is_closing: bool,
    hub: Arc<Hub>,
    dispatcher: Dispatcher,
    health: Health,
    signals: VecDeque<Signal<'static>>,
    shared: Shared,
}

impl Gateway {
    /// A process that has just started.
    pub fn start(nonce: u32, metrics: &Arc<Metrics>, scene: &Scene) -> Self {
        scene.tell(|| format!("gateway {nonce}: starts"));
        let queued_rows = scene.plan.queue_events;
        let hub = Hub::new(HubLimits { queued_rows, streams: 1000, streams_per_user: 1000 });
        let health = Health::new();
        // Nobody is revoked here, and streams are opened only once that is known.
        health.revocations_are_known();
        Self {
            nonce,
            streams: Vec::new(),
            listener: Listener::new(nonce, scene.clock),
            beat: Beat::new(nonce),
            replays: Replays::default(),
            is_closing: false,
            dispatcher: Dispatcher::new(Arc::clone(&hub), Arc::clone(metrics)),
            hub,
            health,
            signals: VecDeque::new(),
            shared: Shared::default(),
        }
    }

    /// Whether it takes streams.
    pub fn is_ready(&self, scene: &Scene) -> bool {
        let has_horizon =
            self.hub.horizon().epochs.current() != 0 || scene.is_without(Sabotage::Readiness);
        self.health.has_been_ready() && has_horizon && !self.is_closing
    }

    /// Opens a stream. `None`: it is stopping.
    pub fn open(
        &mut self,
        id: u64,
        user: UserId,
        resumed: Option<&str>,
        scene: &Scene,
    ) -> Option<()> {
        let subscription = self.hub.subscribe(user, None).ok()?;
        self.streams.push(Stream::open(id, subscription, resumed, scene));
        Some(())
    }

    /// The stream `id`.
    pub fn stream(&mut self, id: u64) -> Option<&mut Stream> {
        self.streams.iter_mut().find(|stream| stream.id == id)
    }

    /// The next `await` of its beat.
    pub fn step_beat(&mut self, postgres: &mut Postgres, scene: &mut Scene) -> bool {
        let Self { beat, hub, signals, health, listener, .. } = self;
        let reach = Reach { hub, signals, health, listener };
        beat.step(postgres, reach, scene)
    }

    /// The next thing of its listener.
    pub fn step_listener(&mut self, postgres: &Postgres, scene: &mut Scene) -> bool {
        self.listener.step(postgres, &mut self.signals, &self.health, scene)
    }

    /// The dispatcher takes a signal.
    pub fn dispatch(&mut self, scene: &Scene) -> bool {
        let Some(signal) = self.signals.pop_front() else { return false };
        scene.tell(|| format!("gateway {}: dispatches {signal:?}", self.nonce));
        self.dispatcher.take(signal);
        scene.tell(|| {
            let horizon = self.hub.horizon();
            let (epoch, watermark) = (horizon.epochs.current(), &horizon.watermark);
            format!("gateway {}: epoch {epoch}, watermark {watermark}", self.nonce)
        });
        true
    }

    /// The next `await` of its replayer.
    pub fn step_replays(&mut self, postgres: &Postgres, scene: &mut Scene) -> bool {
        let Self { replays, streams, hub, .. } = self;
        let ids: Vec<u64> = streams.iter().map(|stream| stream.id).collect();
        let give = |id, answer| {
            if let Some(stream) = streams.iter_mut().find(|stream| stream.id == id) {
                stream.answer(answer);
            }
        };
        replays.step(postgres, hub, scene, |id| ids.contains(&id), give)
    }

    /// A stream goes on.
    pub fn poll(&mut self, place: usize, scene: &mut Scene) -> bool {
        let Self { streams, replays, shared, .. } = self;
        streams[place].poll(replays, shared, scene)
    }

    /// It says goodbye to its streams and takes no more.
    pub fn close(&mut self) {
        self.is_closing = true;
        self.hub.close(StreamEnd::Shutdown);
    }

    /// Nothing is on its way in it.
    pub fn is_idle(&self) -> bool {
        let nothing_waits = self.signals.is_empty() && self.replays.is_idle();
        nothing_waits && self.listener.is_idle() && self.beat.rests()
    }
}
