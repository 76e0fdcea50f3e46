//! The sweep, the probe and the flush: `postgres/beat.rs`, from one `await` to
//! the next.

use std::{collections::VecDeque, mem, sync::Arc, time::Duration};

use notify_gateway::{
    cursor::Snapshot,
    dispatch::{Signal, Sweep},
    health::Health,
    horizon::{Epoch, Epochs, History, Horizon},
    hub::Hub,
};

use crate::{
    listener::Listener,
    postgres::{Commit, Mode, NoticeText, Postgres, Session, TransactionId},
    sabotage::Sabotage,
    scene::Scene,
};

/// A LISTEN connection that brings no probe back for this many beats is given
/// up.
const LOST_PROBES: u32 = 3;

/// Where the database stands.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Its snapshot.
    pub snapshot: Snapshot,
    /// Its history.
    pub history: History,
}

impl Standing {
    /// As the server says now.
    pub fn of(postgres: &Postgres, scene: &Scene) -> Self {
        let mut text = postgres.snapshot();
        if scene.is_without(Sabotage::Xip) {
            let xmax = text.split(':').nth(1).unwrap_or_default().to_owned();
            text = format!("{xmax}:{xmax}:");
        }
        // Postgres writes no other.
        let snapshot = text.parse().unwrap_or_else(|_| unreachable!("{text} is a snapshot"));
        Self { snapshot, history: postgres.history() }
    }
}

/// One gateway's beat.
pub struct Beat {
    nonce: u32,
    number: u64,
    history: Option<History>,
    /// Whether something was published before this beat, and whether this beat
    /// has flushed.
    dirty: bool,
    flushed: bool,
    /// Beats since a probe came back.
    unanswered: u32,
    phase: Phase,
}

/// What the beat waits for. *Asked* is before the server has taken up the
/// statement, *replied* after; the reply may arrive from a server that is dead.
enum Phase {
    Rest,
    Standing(Session, Standing),
    UnseenAsked(Session, Snapshot, Arc<Snapshot>),
    UnseenReplied(Session, Snapshot, Vec<usize>),
    EpochsAsked(Session, Standing, Option<u32>),
    EpochsReplied(Session, Standing, Vec<Epoch>),
    ProbeAsked(Session, Probe),
    ProbeOpen(Session, Probe, TransactionId),
    ProbeReplied(Session, Probe),
}

struct Probe {
    number: u64,
    flush: bool,
    changed: bool,
    /// What to begin once it has come back.
    epoch: Option<(Standing, Vec<Epoch>)>,
}

/// What of its gateway a beat touches.
pub struct Reach<'a> {
    /// Whose watermark it moves.
    pub hub: &'a Hub,
    /// Where what it finds goes.
    pub signals: &'a mut VecDeque<Signal<'static>>,
    /// Learns whether the database answers.
    pub health: &'a Health,
    /// Whose connection it may give up.
    pub listener: &'a mut Listener,
}

impl Beat {
    /// One that has not begun.
    pub fn new(nonce: u32) -> Self {
        let phase = Phase::Rest;
        let (dirty, flushed, unanswered) = (false, false, 0);
        Self { nonce, number: 1, history: None, dirty, flushed, unanswered, phase }
    }

    /// Whether it is between two beats.
    pub fn rests(&self) -> bool {
        matches!(self.phase, Phase::Rest)
    }

    /// Its connection breaks.
    pub fn cut(&mut self) {
        match &mut self.phase {
            Phase::Rest => {}
            Phase::Standing(session, ..)
            | Phase::UnseenAsked(session, ..)
            | Phase::UnseenReplied(session, ..)
            | Phase::EpochsAsked(session, ..)
            | Phase::EpochsReplied(session, ..)
            | Phase::ProbeAsked(session, ..)
            | Phase::ProbeOpen(session, ..)
            | Phase::ProbeReplied(session, ..) => session.cut(),
        }
    }

    /// The process is killed.
    pub fn kill(&mut self, postgres: &mut Postgres) {
        if let Phase::ProbeOpen(_, _, id) = self.phase {
            postgres.orphan(id);
        }
    }

    /// Goes on to the next `await`. `false` when it has to wait for a lock or
    /// for the server.
    pub fn step(
        &mut self,
        postgres: &mut Postgres,
        mut reach: Reach<'_>,
        scene: &mut Scene,
    ) -> bool {
        match mem::replace(&mut self.phase, Phase::Rest) {
            Phase::Rest => {
                self.expect_probes(&mut reach, postgres, scene);
                self.dirty = reach.hub.take_dirty();
                let Some(session) = postgres.connect() else {
                    self.fail(&mut reach);
                    return false;
                };
                let standing = Standing::of(postgres, scene);
                scene.tell(|| {
                    let Self { nonce, number, .. } = self;
                    format!("gateway {nonce}: beat {number} takes {}", standing.snapshot)
                });
                self.phase = Phase::Standing(session, standing);
            }
            Phase::Standing(session, standing) => {
                if !arrives(postgres, session, scene) {
                    self.fail(&mut reach);
                    return true;
                }
                let horizon = reach.hub.horizon();
                let is_set_back = !standing.snapshot.contains(&horizon.watermark);
                let is_other = self.history.as_ref() != Some(&standing.history);
                if is_other || is_set_back || reach.hub.take_epochs_wanted() {
                    let known = self.history.take().map(|_| horizon.epochs.current());
                    let outlived = known.filter(|_| is_set_back && !is_other);
                    self.phase = Phase::EpochsAsked(session, standing, outlived);
                } else {
                    let watermark = Arc::clone(&horizon.watermark);
                    self.phase = Phase::UnseenAsked(session, standing.snapshot, watermark);
                }
            }
            Phase::UnseenAsked(session, snapshot, watermark) => {
                if !postgres.answers(session) {
                    self.fail(&mut reach);
                    return true;
                }
                let mut unseen = postgres.unseen(&watermark);
                if scene.is_without(Sabotage::Sweep) {
                    unseen.clear();
                }
                if scene.is_without(Sabotage::Gap) {
                    unseen.retain(|row| {
                        let visible = postgres.written[*row].visible;
                        !visible.is_some_and(|clock| reach.listener.has_missed(clock))
                    });
                }
                self.phase = Phase::UnseenReplied(session, snapshot, unseen);
            }
            Phase::UnseenReplied(session, snapshot, unseen) => {
                if arrives(postgres, session, scene) {
                    self.swept(session, snapshot, unseen, postgres, &mut reach, scene);
                } else {
                    self.fail(&mut reach);
                }
            }
            Phase::EpochsAsked(session, standing, outlived) => {
                if !postgres.answers(session) {
                    self.fail(&mut reach);
                } else if let Some(epochs) =
                    postgres.epochs(outlived, scene.is_without(Sabotage::EpochNumber))
                {
                    self.phase = Phase::EpochsReplied(session, standing, epochs);
                } else {
                    self.phase = Phase::EpochsAsked(session, standing, outlived);
                    return false;
                }
            }
            Phase::EpochsReplied(session, standing, epochs) => {
                if arrives(postgres, session, scene) {
                    let flush = !scene.is_without(Sabotage::Durability);
                    let probe =
                        Probe { number: 0, flush, changed: false, epoch: Some((standing, epochs)) };
                    self.phase = Phase::ProbeAsked(session, probe);
                } else {
                    self.fail(&mut reach);
                }
            }
            Phase::ProbeAsked(session, probe) => {
                if !postgres.answers(session) {
                    self.fail(&mut reach);
                    return true;
                }
                let id = postgres.begin(Mode::Silent, false);
                if probe.flush && !postgres.update_state(id) {
                    postgres.roll_back(id);
                    self.phase = Phase::ProbeAsked(session, probe);
                    return false;
                }
                postgres.notify(id, NoticeText::Probe { nonce: self.nonce, number: probe.number });
                self.phase = Phase::ProbeOpen(session, probe, id);
            }
            Phase::ProbeOpen(session, probe, id) => {
                if !postgres.answers(session) {
                    postgres.orphan(id);
                    self.fail(&mut reach);
                    return true;
                }
                match postgres.commit(id, scene.clock) {
                    Commit::Done => self.phase = Phase::ProbeReplied(session, probe),
                    Commit::Written => self.phase = Phase::ProbeOpen(session, probe, id),
                    Commit::Waits => {
                        self.phase = Phase::ProbeOpen(session, probe, id);
                        return false;
                    }
                }
            }
            Phase::ProbeReplied(session, probe) => {
                if arrives(postgres, session, scene) {
                    self.probed(probe, &mut reach, scene);
                } else {
                    self.fail(&mut reach);
                }
            }
        }
        true
    }

    fn swept(
        &mut self,
        session: Session,
        mut snapshot: Snapshot,
        unseen: Vec<usize>,
        postgres: &Postgres,
        reach: &mut Reach<'_>,
        scene: &mut Scene,
    ) {
        if scene.is_without(Sabotage::WatermarkFirst) {
            snapshot = Standing::of(postgres, scene).snapshot;
        }
        let changed = self.dirty || !unseen.is_empty();
        let is_due = scene.chance(scene.plan.due_flushes);
        let flush = changed && (is_due || reach.hub.take_watermark_wanted());
        scene.tell(|| {
            let Self { nonce, number, .. } = self;
            format!("gateway {nonce}: sweep {number} of {snapshot} finds rows {unseen:?}")
        });
        let key = |row: &usize| (postgres.written[*row].key, postgres.written[*row].user.clone());
        let is_long = unseen.len() > scene.plan.max_unseen;
        let unseen = (!is_long).then(|| unseen.iter().map(key).collect());
        let sweep = Sweep { number: self.number, snapshot: Arc::new(snapshot), unseen };
        reach.signals.push_back(Signal::Swept(sweep));
        reach.health.probe_sent(self.number);
        let mut probe = Probe { number: self.number, flush, changed, epoch: None };
        if scene.is_without(Sabotage::Durability) {
            reach.signals.push_back(Signal::Durable(self.number));
            probe.flush = false;
        }
        self.phase = Phase::ProbeAsked(session, probe);
    }

    fn probed(&mut self, probe: Probe, reach: &mut Reach<'_>, scene: &mut Scene) {
        match probe.epoch {
            Some((standing, epochs)) => {
                let epochs = Epochs::new(epochs);
                scene.tell(|| format!("gateway {}: begins epoch {}", self.nonce, epochs.current()));
                let watermark = Arc::new(standing.snapshot);
                let history = standing.history.clone();
                reach.signals.push_back(Signal::Epoch(Horizon { history, watermark, epochs }));
                self.history = Some(standing.history);
            }
            None if probe.flush => {
                scene.tell(|| format!("gateway {}: sweep {} is durable", self.nonce, probe.number));
                reach.signals.push_back(Signal::Durable(probe.number));
                self.flushed = true;
            }
            None if probe.changed => reach.hub.set_dirty(),
            None => {}
        }
        reach.health.database_answers();
        self.rest(reach);
    }

    fn fail(&mut self, reach: &mut Reach<'_>) {
        reach.health.database_fails("no sweep".to_owned());
        self.rest(reach);
    }

    /// Beats are the only clock there is here: that of a beat before.
    fn expect_probes(&mut self, reach: &mut Reach<'_>, postgres: &Postgres, scene: &Scene) {
        let is_unanswered = reach.health.probe_is_lost(Duration::ZERO);
        self.unanswered = if is_unanswered { self.unanswered + 1 } else { 0 };
        if self.unanswered >= LOST_PROBES {
            reach.listener.kick(postgres, scene.clock);
            self.unanswered = 0;
        }
    }

    fn rest(&mut self, reach: &mut Reach<'_>) {
        if mem::take(&mut self.dirty) && !mem::take(&mut self.flushed) {
            reach.hub.set_dirty();
        }
        self.flushed = false;
        self.number += 1;
        self.phase = Phase::Rest;
    }
}

/// Whether the reply to a statement arrives: of a connection that has broken
/// since, it may or may not.
fn arrives(postgres: &Postgres, session: Session, scene: &mut Scene) -> bool {
    postgres.answers(session) || scene.dice.bool()
}
