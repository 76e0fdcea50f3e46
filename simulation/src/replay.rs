//! Pages for streams that are behind: `replay.rs`, from one `await` to the
//! next.

use std::{collections::VecDeque, sync::Arc};

use notify_gateway::{
    cursor::Cursor,
    feed::{Page, Row},
    horizon::{Epoch, Epochs, Horizon, Resync},
    hub::Hub,
    notification::{Payload, UserId},
    sse,
};

use crate::{
    beat::Standing,
    postgres::{PageRows, Postgres, Session},
    sabotage::Sabotage,
    scene::Scene,
    stream::shown,
};

/// The answer to a stream.
pub type Answer = Result<Page, Resync>;

/// Queries that may be on their way at once.
const CONCURRENCY: usize = 2;

/// Wishes and the queries that grant them.
#[derive(Default)]
pub struct Replays {
    waiting: VecDeque<Wish>,
    batches: Vec<Batch>,
}

/// A stream's wish for a page.
pub struct Wish {
    /// Whose.
    pub stream: u64,
    /// Whose rows.
    pub user: UserId,
    /// What it has.
    pub cursor: Cursor,
    /// Above this many rows there is a resync instead.
    pub limit: Option<usize>,
}

struct Batch {
    wishes: Vec<Wish>,
    /// Taken before anything is read: what it sees is in the pages.
    horizon: Arc<Horizon>,
    phase: Phase,
}

enum Phase {
    Asked,
    Standing(Session, Standing),
    EpochsAsked(Session, Vec<Reading>),
    Epochs(Session, Vec<Reading>, Vec<Epoch>),
    PagesAsked(Session, Vec<Reading>),
    Pages(Session, Vec<Reading>),
    CountAsked(Session, Vec<Reading>),
    Counted(Session, Vec<Reading>),
}

/// A wish on its way to its answer.
struct Reading {
    /// The wish's cursor in the current epoch.
    cursor: Cursor,
    refused: Option<Resync>,
    /// The beat first has to find out about its epoch.
    waits: bool,
    page: PageRows,
}

impl Replays {
    /// Asks for a page.
    pub fn wish(&mut self, wish: Wish) {
        self.waiting.push_back(wish);
    }

    /// Whether nothing is asked for.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.batches.is_empty()
    }

    /// The connection of one of the queries breaks.
    pub fn cut(&mut self, scene: &mut Scene) -> bool {
        if self.batches.is_empty() {
            return false;
        }
        let place = scene.dice.usize(0..self.batches.len());
        match &mut self.batches[place].phase {
            Phase::Asked => return false,
            Phase::Standing(session, ..)
            | Phase::EpochsAsked(session, ..)
            | Phase::Epochs(session, ..)
            | Phase::PagesAsked(session, ..)
            | Phase::Pages(session, ..)
            | Phase::CountAsked(session, ..)
            | Phase::Counted(session, ..) => session.cut(),
        }
        true
    }

    /// Begins a query, or takes one of those that run to the next `await`.
    /// `lives` says whether a stream is still there; the answers are given to
    /// `give`.
    pub fn step(
        &mut self,
        postgres: &Postgres,
        hub: &Hub,
        scene: &mut Scene,
        lives: impl Fn(u64) -> bool,
        mut give: impl FnMut(u64, Answer),
    ) -> bool {
        let can_begin = !self.waiting.is_empty() && self.batches.len() < CONCURRENCY;
        if can_begin && (self.batches.is_empty() || scene.dice.bool()) {
            let count = scene.dice.usize(1..=self.waiting.len());
            let wishes = self.waiting.drain(..count).filter(|wish| lives(wish.stream)).collect();
            let horizon = hub.horizon();
            self.batches.push(Batch { wishes, horizon, phase: Phase::Asked });
            return true;
        }
        if self.batches.is_empty() {
            return false;
        }
        let place = scene.dice.usize(0..self.batches.len());
        let batch = self.batches.swap_remove(place);
        match batch.step(postgres, hub, scene) {
            Progress::On(batch) => self.batches.push(batch),
            Progress::Failed(wishes) => {
                for wish in wishes.into_iter().rev() {
                    self.waiting.push_front(wish);
                }
                return postgres.is_up();
            }
            Progress::Granted(answers) => {
                for (wish, answer) in answers {
                    match answer {
                        Some(answer) => give(wish.stream, answer),
                        None => self.waiting.push_back(wish),
                    }
                }
            }
        }
        true
    }
}

enum Progress {
    On(Batch),
    Failed(Vec<Wish>),
    /// No answer for a wish that has to be made again.
    Granted(Vec<(Wish, Option<Answer>)>),
}

impl Batch {
    fn step(self, postgres: &Postgres, hub: &Hub, scene: &mut Scene) -> Progress {
        let Self { wishes, horizon, phase } = self;
        let phase = match phase {
            Phase::Asked => {
                let Some(session) = postgres.connect() else { return Progress::Failed(wishes) };
                Phase::Standing(session, Standing::of(postgres, scene))
            }
            Phase::Standing(session, standing) => {
                let is_ours = standing.history == horizon.history
                    || scene.is_without(Sabotage::HorizonHistory);
                if !is_ours || !arrives(postgres, session, scene) {
                    return Progress::Failed(wishes);
                }
                let adopt = |wish: &Wish| Reading::new(wish, &horizon, &standing, scene);
                let readings: Vec<Reading> = wishes.iter().map(adopt).collect();
                let is_news = |reading: &Reading| {
                    reading.refused.is_some() && !horizon.epochs.include(reading.cursor.epoch())
                };
                if readings.iter().any(is_news) {
                    Phase::EpochsAsked(session, readings)
                } else {
                    Phase::PagesAsked(session, readings)
                }
            }
            Phase::EpochsAsked(session, readings) => {
                if !postgres.answers(session) {
                    return Progress::Failed(wishes);
                }
                Phase::Epochs(session, readings, postgres.list_epochs())
            }
            Phase::Epochs(session, mut readings, epochs) => {
                if !arrives(postgres, session, scene) {
                    return Progress::Failed(wishes);
                }
                let news = Epochs::new(epochs);
                for reading in &mut readings {
                    let number = reading.cursor.epoch();
                    if reading.refused.is_some() && news.include(number) {
                        reading.waits = !horizon.epochs.include(number);
                    }
                }
                if readings.iter().any(|reading| reading.waits) {
                    hub.want_epochs();
                }
                Phase::PagesAsked(session, readings)
            }
            Phase::PagesAsked(session, mut readings) => {
                if !postgres.answers(session) {
                    return Progress::Failed(wishes);
                }
                let (max_rows, max_size) = (scene.plan.page_rows, scene.plan.page_size);
                for (wish, reading) in wishes.iter().zip(&mut readings) {
                    if reading.refused.is_none() {
                        let Reading { cursor, .. } = reading;
                        reading.page = postgres.page(&wish.user, cursor, max_rows, max_size);
                    }
                }
                Phase::Pages(session, readings)
            }
            Phase::Pages(session, mut readings) => {
                if !arrives(postgres, session, scene) {
                    return Progress::Failed(wishes);
                }
                for (wish, reading) in wishes.iter().zip(&mut readings) {
                    if wish.limit.is_some_and(|most| reading.page.payloads.len() > most) {
                        reading.refused = Some(Resync::TooFarBack);
                        reading.page.more = false;
                    }
                }
                let mut counted = wishes.iter().zip(&readings);
                if !counted.any(|(wish, reading)| reading.page.more && wish.limit.is_some()) {
                    return grant(wishes, readings, &horizon, scene);
                }
                Phase::CountAsked(session, readings)
            }
            Phase::CountAsked(session, mut readings) => {
                if !postgres.answers(session) {
                    return Progress::Failed(wishes);
                }
                for (wish, reading) in wishes.iter().zip(&mut readings) {
                    if let Some(most) = wish.limit.filter(|_| reading.page.more) {
                        let exceeds = postgres.count(&wish.user, &reading.cursor) > most;
                        reading.refused = exceeds.then_some(Resync::TooFarBack);
                    }
                }
                Phase::Counted(session, readings)
            }
            Phase::Counted(session, readings) => {
                if !arrives(postgres, session, scene) {
                    return Progress::Failed(wishes);
                }
                return grant(wishes, readings, &horizon, scene);
            }
        };
        Progress::On(Self { wishes, horizon, phase })
    }
}

impl Reading {
    fn new(wish: &Wish, horizon: &Horizon, standing: &Standing, scene: &Scene) -> Self {
        let mut cursor = wish.cursor.clone();
        scene.adopt_unclamped(&mut cursor, horizon);
        let mut refused = horizon.adopt(&mut cursor).err();
        if refused.is_none() && !standing.snapshot.contains(cursor.snapshot()) {
            refused = Some(Resync::Future);
        }
        Self { cursor, refused, waits: false, page: PageRows::default() }
    }

    fn answer(self, horizon: &Arc<Horizon>) -> Answer {
        if let Some(reason) = self.refused {
            return Err(reason);
        }
        let rows = self.page.payloads.iter().map(|payload| decode(payload)).collect();
        Ok(Page { horizon: Arc::clone(horizon), rows, complete: !self.page.more })
    }
}

fn grant(
    wishes: Vec<Wish>,
    readings: Vec<Reading>,
    horizon: &Arc<Horizon>,
    scene: &Scene,
) -> Progress {
    let mut answers = Vec::with_capacity(wishes.len());
    for (wish, reading) in wishes.into_iter().zip(readings) {
        scene.tell(|| {
            let Reading { cursor, page: PageRows { payloads, more }, .. } = &reading;
            let (stream, beyond, rows) = (wish.stream, shown(cursor), payloads.len());
            format!("page for stream {stream} beyond {beyond}: {rows} rows, more: {more}")
        });
        let answer = (!reading.waits).then(|| reading.answer(horizon));
        answers.push((wish, answer));
    }
    Progress::Granted(answers)
}

fn decode(payload: &str) -> Row {
    match Payload::decode(payload) {
        Ok(Payload::Row(row)) => {
            Row { key: row.key, event: sse::notification(row.data), made_at: None }
        }
        other => unreachable!("the table gave {other:?}"),
    }
}

/// Whether the reply to a statement arrives: of a connection that has broken
/// since, it may or may not.
fn arrives(postgres: &Postgres, session: Session, scene: &mut Scene) -> bool {
    postgres.answers(session) || scene.dice.bool()
}
