//! What the gateway's own code asks and hears: [`Store`] and [`Listen`] over the
//! simulated Postgres. Each statement waits for two turns: until the server takes
//! it up, and until the reply arrives.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
};

use notify_gateway::{
    cursor::{RowKey, Snapshot},
    feed::Row,
    horizon::Epochs,
    listen::{Listen, ListenError, Notice, Notices},
    notification::{EventName, UserId},
    quiet::{FOR_GOOD, Left},
    store::{
        PageRequest, PageRow, PageRows, Pages, Standing, Store, StoreError, SweepWrite,
        Transaction, Unseen,
    },
};

use parking_lot::Mutex;

use crate::{
    ears::Ears,
    postgres::{Commit, Found, Mode, NoticeText, Session, TransactionId},
    sabotage::Sabotage,
    server::{Server, Shared},
    turns::Turns,
};

/// The time of a step, as a server tells it.
#[allow(clippy::cast_precision_loss, reason = "a history has some hundreds of steps")]
pub fn clock(step: u64) -> f64 {
    step as f64
}

/// How long a second of quiet lasts.
const STEPS_PER_SECOND: f64 = 30.0;

/// The database as one part of a gateway sees it.
#[derive(Clone)]
pub struct Database {
    shared: Shared,
    /// A connection that is kept for the next transaction.
    pooled: Arc<Mutex<Option<Session>>>,
    turns: Turns,
    /// Whose part it is.
    nonce: u32,
    purpose: Purpose,
    /// Whether this part has followed the database into an epoch.
    has_begun: Arc<AtomicBool>,
}

/// What a part of a gateway asks the database for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Sweeps,
    Replays,
    /// An edge's own sweeps.
    Fallback,
}

impl Database {
    /// For the sweeper of the gateway `nonce`.
    pub fn for_sweeps(shared: Shared, turns: Turns, nonce: u32) -> Self {
        Self::new(shared, turns, nonce, Purpose::Sweeps)
    }

    /// For its edge, which sweeps while it hears no source.
    pub fn for_edges(shared: Shared, turns: Turns, nonce: u32) -> Self {
        Self::new(shared, turns, nonce, Purpose::Fallback)
    }

    /// For its replayer.
    pub fn for_replays(shared: Shared, turns: Turns, nonce: u32) -> Self {
        Self::new(shared, turns, nonce, Purpose::Replays)
    }

    fn new(shared: Shared, turns: Turns, nonce: u32, purpose: Purpose) -> Self {
        let (pooled, has_begun) = Default::default();
        Self { shared, pooled, turns, nonce, purpose, has_begun }
    }
}

impl Store for Database {
    type Transaction = Work;

    async fn begin(&self) -> Result<Work, StoreError> {
        self.begin_as(false).await
    }

    async fn snapshot(&self) -> Result<Work, StoreError> {
        self.begin_as(true).await
    }
}

impl Database {
    async fn begin_as(&self, is_snapshot: bool) -> Result<Work, StoreError> {
        self.turns.turn().await;
        let is_fallback = self.purpose == Purpose::Fallback;
        if is_fallback && self.has_begun.load(Ordering::Relaxed) && self.is_without_fallback() {
            std::future::pending().await
        }
        let pooled = self.pooled.lock().take();
        let mut server = self.shared.lock();
        let session = pooled.filter(|session| server.postgres.answers(session)).or_else(|| {
            let since = clock(server.scene.clock);
            server.postgres.connect(Arc::default(), since)
        });
        let work = session.map(|session| Work {
            database: self.clone(),
            session,
            id: server.postgres.begin(Mode::Silent, false),
            is_snapshot,
            table: None,
            seen_until: None,
            begun: None,
            is_committing: false,
        });
        drop(server);
        let work = work.ok_or(StoreError::Closed)?;
        self.turns.connection(work.session.is_cut());
        Ok(work)
    }

    fn is_without_fallback(&self) -> bool {
        self.shared.lock().scene.is_without(Sabotage::Fallback)
    }
}

/// A transaction of a gateway.
pub struct Work {
    database: Database,
    session: Session,
    id: TransactionId,
    /// Whether all its statements see the same.
    is_snapshot: bool,
    /// What they see: the log at the first of them.
    table: Option<Vec<usize>>,
    /// Without the order of snapshot and sweep: when the rows were looked for.
    seen_until: Option<u64>,
    /// The epoch that it has begun.
    begun: Option<u32>,
    /// Whether the server has taken COMMIT up.
    is_committing: bool,
}

impl Work {
    /// A statement. `run` says nothing while it waits for a lock.
    async fn ask<T: Send>(
        &mut self,
        mut run: impl FnMut(&mut Server, &mut Self) -> Option<T> + Send,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.database.shared);
        let answer = loop {
            self.database.turns.turn().await;
            let mut server = shared.lock();
            if !server.postgres.answers(&self.session) {
                return Err(StoreError::Closed);
            }
            if let Some(answer) = run(&mut server, self) {
                break answer;
            }
        };
        self.database.turns.turn().await;
        let mut server = shared.lock();
        // Of a connection that has broken since, the reply may arrive or not.
        let arrives = server.postgres.answers(&self.session) || server.scene.dice.bool();
        if arrives { Ok(answer) } else { Err(StoreError::Closed) }
    }
}

impl Transaction for Work {
    async fn standing(&mut self) -> Result<Standing, StoreError> {
        let without = |server: &Server, what| server.scene.is_without(what);
        if without(&self.database.shared.lock(), Sabotage::WatermarkFirst) {
            self.seen_until = Some(self.database.shared.lock().scene.clock);
            self.database.turns.turn().await;
        }
        self.ask(|server, work| {
            work.table = work.is_snapshot.then(|| server.postgres.table().to_vec());
            let mut text = server.postgres.snapshot();
            if without(server, Sabotage::Xip) {
                let xmax = text.split(':').nth(1).unwrap_or_default().to_owned();
                text = format!("{xmax}:{xmax}:");
            }
            let mut epoch = epoch_of(server);
            let Database { nonce, purpose, .. } = work.database;
            if purpose == Purpose::Replays && without(server, Sabotage::HorizonEpoch) {
                epoch = server.believed.get(&nonce).copied().unwrap_or(epoch);
            }
            server.scene.tell(|| format!("gateway {nonce}: finds {text} of epoch {epoch}"));
            // Postgres writes no other.
            let snapshot = text.parse().unwrap_or_else(|_| unreachable!("{text} is a snapshot"));
            let connected = work.session.since();
            let now = clock(server.scene.clock);
            let quiet = server
                .postgres
                .quiet_until()
                .map_or(Left::NEVER, |until| Left((until - now) / STEPS_PER_SECOND));
            Some(Standing { snapshot, epoch, queue_usage: 0.0, quiet, now, connected })
        })
        .await
    }

    async fn unseen(&mut self, watermark: &Snapshot) -> Result<Unseen, StoreError> {
        self.ask(|server, work| {
            let Server { postgres, scene, ears, .. } = server;
            let nonce = work.database.nonce;
            let mut unseen = postgres.unseen(watermark);
            if !scene.is_without(Sabotage::SweepOrder) {
                unseen.sort_by_key(|row| postgres.written[*row].key.seq);
            }
            let visible = |row: &usize| postgres.written[*row].visible.unwrap_or_default();
            if scene.is_without(Sabotage::Sweep) {
                unseen.clear();
            }
            if scene.is_without(Sabotage::Gap) {
                let ears = ears.get(&nonce);
                unseen.retain(|row| !ears.is_some_and(|ears| ears.has_missed(visible(row))));
            }
            if let Some(until) = work.seen_until {
                unseen.retain(|row| visible(row) <= until);
            }
            scene.tell(|| format!("gateway {nonce}: sweeps {watermark}, finds rows {unseen:?}"));
            let key =
                |row: &usize| (postgres.written[*row].key, postgres.written[*row].user.clone());
            let is_listed = unseen.len() <= scene.plan.max_unseen;
            let rows = is_listed.then(|| unseen.iter().map(key).collect());
            let text = postgres.snapshot();
            let seen = text.parse().unwrap_or_else(|_| unreachable!("{text} is a snapshot"));
            Some(Unseen { rows, seen })
        })
        .await
    }

    async fn rows(&mut self, keys: &[(RowKey, UserId)]) -> Result<Vec<Option<Row>>, StoreError> {
        self.ask(|server, _| {
            let Server { postgres, scene, .. } = server;
            let percent = scene.plan.full_answers;
            let mut is_full = false;
            let stored = keys.iter().map(|(key, user)| {
                is_full |= scene.chance(percent);
                let row = postgres.row_at(*key, user).filter(|_| !is_full)?;
                let name = EventName::stored(postgres.event(row));
                Some(Row::new(*key, name, &postgres.data(row)))
            });
            Some(stored.collect())
        })
        .await
    }

    async fn write(&mut self, write: SweepWrite<'_>) -> Result<Option<u64>, StoreError> {
        let number = write.probe.map(|nonce| {
            let number = nonce.rsplit(':').next().and_then(|number| number.parse().ok());
            number.unwrap_or_else(|| unreachable!("{nonce} ends with a number"))
        });
        self.ask(|server, work| {
            let Server { postgres, scene, .. } = server;
            let is_flushed = write.flush && !scene.is_without(Sabotage::Durability);
            let now = clock(scene.clock);
            let quiet_until = write.quiet.map(|quiet| match quiet {
                FOR_GOOD => f64::INFINITY,
                quiet => now + quiet.as_secs_f64() * STEPS_PER_SECOND,
            });
            let mut own = None;
            if is_flushed {
                own = Some(postgres.update_state(work.id, quiet_until)?);
            }
            let nonce = work.database.nonce;
            scene.tell(|| format!("gateway {nonce}: {write:?}"));
            if let Some(number) = number {
                postgres.notify(work.id, NoticeText::Probe { nonce, number });
            }
            if let Some(own) = own.filter(|_| write.ring) {
                let ring = format!(r#"{{"xact_id":"{own}"}}"#);
                postgres.notify(work.id, NoticeText::Payload(ring));
            }
            // Without the safeguard the gateway believes that it has written.
            Some(own.or(write.flush.then_some(0)))
        })
        .await
    }

    async fn epochs(&mut self) -> Result<Epochs, StoreError> {
        self.ask(|server, work| {
            let current = epoch_of(server);
            let Server { postgres, scene, .. } = server;
            let mut epochs = postgres.epochs(work.id, current)?;
            if scene.is_without(Sabotage::EpochClamp) {
                epochs.iter_mut().for_each(|epoch| epoch.first = epoch.first.map(|_| u64::MAX));
            }
            work.begun = Some(current);
            scene.tell(|| format!("gateway {}: finds epochs {epochs:?}", work.database.nonce));
            Some(Epochs::new(epochs))
        })
        .await
    }

    async fn pages(&mut self, requests: &[PageRequest<'_>]) -> Result<Pages, StoreError> {
        self.ask(|server, work| {
            let Server { postgres, scene, .. } = server;
            let table = work.table.as_deref().unwrap_or(postgres.table());
            let (max_rows, max_size) = (scene.plan.page_rows, scene.plan.page_size);
            let mut is_full = false;
            let mut pages = Vec::new();
            for PageRequest { user, cursor } in requests {
                if is_full {
                    pages.push(None);
                    continue;
                }
                let Found { rows, more } = postgres.page(table, user, cursor, max_rows, max_size);
                is_full = !rows.is_empty() && scene.chance(scene.plan.full_answers);
                scene.tell(|| {
                    let nonce = work.database.nonce;
                    format!("gateway {nonce}: page of {user}: rows {rows:?}, more: {more}")
                });
                let is_whole = !scene.is_without(Sabotage::WholeTransaction);
                let sees_newer = !scene.is_without(Sabotage::Newer);
                let stored = |row: usize| {
                    let mut key = postgres.written[row].key;
                    key.seq = if is_whole { key.seq } else { i64::MAX };
                    let newer = postgres.newer(table, row).filter(|_| sees_newer);
                    let name = EventName::stored(postgres.event(row));
                    let row = Row::new(key, name, &postgres.data(newer.unwrap_or(row)));
                    let newer = newer.map(|newer| postgres.event(newer).into());
                    PageRow { row, newer }
                };
                pages.push(Some(PageRows { rows: rows.into_iter().map(stored).collect(), more }));
            }
            Some(Pages { pages, pruned_below: None })
        })
        .await
    }

    async fn exceed(
        &mut self,
        requests: &[PageRequest<'_>],
        limit: u32,
    ) -> Result<Vec<bool>, StoreError> {
        self.ask(|Server { postgres, .. }, work| {
            let table = work.table.as_deref().unwrap_or(postgres.table());
            let count = |asked: &PageRequest<'_>| postgres.count(table, asked.user, asked.cursor);
            let exceeds = |asked| u32::try_from(count(asked)).is_ok_and(|count| count > limit);
            Some(requests.iter().map(exceeds).collect())
        })
        .await
    }

    async fn commit(mut self) -> Result<(), StoreError> {
        self.ask(|server, work| {
            work.is_committing = true;
            let clock = server.scene.clock;
            if server.postgres.commit(work.id, clock) != Commit::Done {
                return None;
            }
            if let Some(begun) = work.begun.take() {
                server.believed.insert(work.database.nonce, begun);
                work.database.has_begun.store(true, Ordering::Relaxed);
            }
            Some(())
        })
        .await?;
        *self.database.pooled.lock() = Some(self.session.clone());
        Ok(())
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.database.turns.forget(self.session.is_cut());
        let postgres = &mut self.database.shared.lock().postgres;
        if !postgres.runs(self.id) {
            return;
        }
        // What has been told to commit does so, whether anybody waits for it or not.
        if self.is_committing {
            postgres.orphan(self.id);
        } else {
            postgres.roll_back(self.id);
        }
    }
}

/// `notify_gateway.current_epoch()`.
fn epoch_of(server: &Server) -> u32 {
    let Server { postgres, scene, .. } = server;
    if scene.is_without(Sabotage::EpochLife) {
        postgres.epoch_of_timeline()
    } else {
        postgres.epoch()
    }
}

/// How a gateway listens.
pub struct Hearing {
    /// To whom.
    pub shared: Shared,
    /// When it goes on.
    pub turns: Turns,
    /// Whose.
    pub nonce: u32,
}

/// A connection on which LISTEN holds.
pub struct Heard {
    shared: Shared,
    turns: Turns,
    nonce: u32,
    is_cut: Arc<AtomicBool>,
}

impl Listen for Hearing {
    type Notices = Heard;

    async fn listen(&self) -> Result<Heard, ListenError> {
        self.turns.turn().await;
        let is_cut = Arc::new(AtomicBool::new(false));
        self.turns.connection(&is_cut);
        let session = {
            let mut server = self.shared.lock();
            let Server { postgres, scene, ears, .. } = &mut *server;
            let Some(session) = postgres.connect(Arc::clone(&is_cut), clock(scene.clock)) else {
                self.turns.forget(&is_cut);
                return Err(ListenError::Closed);
            };
            scene.tell(|| format!("gateway {}: LISTEN", self.nonce));
            let (nonce, clock) = (self.nonce, scene.clock);
            let ears = ears.entry(nonce).or_insert_with(|| Ears::new(nonce, clock));
            ears.listen(session.clone(), postgres, clock);
            session
        };
        let Self { shared, turns, nonce } = self;
        let heard =
            Heard { shared: Arc::clone(shared), turns: turns.clone(), nonce: *nonce, is_cut };
        self.turns.turn().await;
        let mut server = self.shared.lock();
        let arrives = server.postgres.answers(&session) || server.scene.dice.bool();
        drop(server);
        if arrives { Ok(heard) } else { Err(ListenError::Closed) }
    }

    async fn changed(&self) {
        std::future::pending().await
    }
}

impl Notices for Heard {
    async fn next(&mut self) -> Result<Notice, ListenError> {
        loop {
            poll_fn(|_| if self.has_news() { Poll::Ready(()) } else { Poll::Pending }).await;
            self.turns.turn().await;
            let mut server = self.shared.lock();
            let Server { postgres, scene, ears, .. } = &mut *server;
            let ears = ears.get_mut(&self.nonce).ok_or(ListenError::Closed)?;
            if let Some(notice) = ears.read(postgres)? {
                scene.tell(|| format!("gateway {}: hears {:?}", self.nonce, notice.text));
                return Ok(match notice.text {
                    NoticeText::Payload(payload) => Notice::Payload(payload),
                    NoticeText::Probe { number, .. } => Notice::Probe(number),
                });
            }
        }
    }
}

impl Heard {
    fn has_news(&self) -> bool {
        let Server { postgres, ears, .. } = &*self.shared.lock();
        ears.get(&self.nonce).is_none_or(|ears| ears.has_news(postgres))
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        self.turns.forget(&self.is_cut);
        let mut server = self.shared.lock();
        let Server { postgres, scene, ears, .. } = &mut *server;
        if let Some(ears) = ears.get_mut(&self.nonce) {
            ears.close(postgres, scene.clock);
        }
    }
}
