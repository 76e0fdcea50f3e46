//! Answers without an end, many in one task.
//!
//! A connection needs a task of its own while it reads a request and waits for
//! its answer. A stream then lasts for hours in which nothing happens, so its
//! connection is moved to a reactor: an entry in a slab, and a place in a queue
//! of deadlines. When the answer ends the connection goes back to a task.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use parking_lot::Mutex;
use slab::Slab;
use tokio::{
    sync::mpsc,
    task::{coop, yield_now},
    time::Instant,
};

use super::timer::Timer;

/// How many streams are polled before other tasks may run. A turn is longer, up to
/// eight times, when many wait: behind a rush of connects their turns come
/// seldom.
const TURN: usize = 64;
const LONGEST_TURN: usize = 8 * TURN;

/// A deadline is waited for this much longer, so that one wake-up serves all that
/// are due by then.
const GRAIN: Duration = Duration::from_millis(10);

/// A pass over more streams than fit into one turn is followed by a rest as long
/// as the pass was, up to this: what comes meanwhile for the same streams goes out
/// in one write.
const MAX_REST: Duration = Duration::from_millis(5);

/// What a reactor holds.
pub(super) trait Held: Send + 'static {
    /// What is left of it.
    type Rest: Send + 'static;

    /// Does what can be done; ready when it is over, with what is to go on.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome>;

    /// When it has to be polled again although nothing wakes it.
    fn due(&self) -> Option<Instant>;

    /// What goes on after [`Outcome::Done`].
    fn into_rest(self) -> Self::Rest;
}

/// How something that was held is over.
pub(super) enum Outcome {
    /// There is something left to do.
    Done,
    /// There is nothing left.
    Gone,
}

/// Where something to hold is handed over.
pub(super) type Arrivals<H> = mpsc::UnboundedSender<H>;

/// Holds what it is given, and gives back what is left of it.
pub(super) struct Reactor<H: Held> {
    arrivals: mpsc::UnboundedReceiver<H>,
    departures: mpsc::UnboundedSender<H::Rest>,
    held: Slab<Entry<H>>,
    /// Deadlines with their keys, the earliest first. An old one, which its entry
    /// does not have any more, is passed over.
    deadlines: BinaryHeap<Reverse<(Instant, usize)>>,
    ready: Arc<Ready>,
    /// Taken from `ready`, the last first; kept for its memory.
    pass: Vec<usize>,
    /// When the pass began, if it is a large one.
    large_since: Option<Instant>,
    /// Until then no pass begins.
    rests_until: Option<Instant>,
    timer: Timer,
}

struct Entry<H> {
    held: H,
    waker: Waker,
    /// The deadline that is in the queue.
    deadline: Option<Instant>,
}

impl<H: Held> Reactor<H> {
    pub(super) fn new(departures: mpsc::UnboundedSender<H::Rest>) -> (Arrivals<H>, Self) {
        let (handle, arrivals) = mpsc::unbounded_channel();
        let reactor = Self {
            arrivals,
            departures,
            held: Slab::new(),
            deadlines: BinaryHeap::new(),
            ready: Arc::default(),
            pass: Vec::new(),
            large_since: None,
            rests_until: None,
            timer: Timer::default(),
        };
        (handle, reactor)
    }

    /// Runs until nobody can hand anything over and nothing is held.
    pub(super) async fn run(mut self) {
        // Tokio's budget is for one connection in a task; this has a turn of its
        // own.
        let running = async {
            while poll_fn(|cx| self.poll_turn(cx)).await {
                // Sockets are looked at in between.
                yield_now().await;
            }
        };
        coop::unconstrained(running).await;
    }

    /// One turn: ready with whether there will be another.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut left = (self.pass.len() / 8).clamp(TURN, LONGEST_TURN);
        // Those who arrive have half of the turn at the most.
        let half = left / 2;
        let is_open = loop {
            match self.arrivals.poll_recv(cx) {
                Poll::Ready(Some(held)) => self.admit(held),
                Poll::Ready(None) => break false,
                Poll::Pending => break true,
            }
            left -= 1;
            if left == half {
                // There may be more, so nobody has to wake us for them.
                cx.waker().wake_by_ref();
                break true;
            }
        };
        let now = Instant::now();
        loop {
            if left == 0 {
                return Poll::Ready(true);
            }
            left -= 1;
            if let Some(key) = self.pop_due(now) {
                self.poll_held(key);
                continue;
            }
            if self.pass.is_empty() && !self.begin_pass(now, cx.waker()) {
                break;
            }
            if let Some(key) = self.pass.pop() {
                self.poll_held(key);
            }
        }
        if self.held.is_empty() {
            if !is_open {
                return Poll::Ready(false);
            }
            self.give_back();
        }
        let timer = self.poll_timer(cx);
        timer.map(|()| true)
    }

    /// Whether there is a pass to be made.
    fn begin_pass(&mut self, now: Instant, reactor: &Waker) -> bool {
        if let Some(since) = self.large_since.take() {
            self.rests_until = Some(now + now.duration_since(since).min(MAX_REST));
        }
        if self.rests_until.is_some_and(|until| now < until) {
            return false;
        }
        self.rests_until = None;
        let is_there = self.ready.take(&mut self.pass, reactor);
        self.large_since = (self.pass.len() > TURN).then_some(now);
        is_there
    }

    fn admit(&mut self, held: H) {
        let entry = self.held.vacant_entry();
        let key = entry.key();
        let waker = Waker::from(Arc::new(Wakes { key, ready: Arc::clone(&self.ready) }));
        entry.insert(Entry { held, waker, deadline: None });
        self.poll_held(key);
    }

    fn poll_held(&mut self, key: usize) {
        // It was woken after its end.
        let Some(entry) = self.held.get_mut(key) else { return };
        let Entry { held, waker, deadline } = entry;
        let mut cx = Context::from_waker(waker);
        // A panic ends one stream, as it would end one task. Not so while a stream
        // is dropped: what it leaves behind then nobody knows, and the gateway ends.
        let polled = catch_unwind(AssertUnwindSafe(|| held.poll(&mut cx)));
        match polled {
            Ok(Poll::Pending) => {
                let due = held.due();
                if let Some(due) = due
                    && deadline.is_none_or(|queued| due < queued)
                {
                    *deadline = Some(due);
                    self.deadlines.push(Reverse((due, key)));
                    self.forget_old_deadlines();
                }
            }
            Ok(Poll::Ready(Outcome::Done)) => {
                let rest = self.held.remove(key).held.into_rest();
                // Nobody takes it when the server is being cut off.
                let _sent = self.departures.send(rest);
            }
            Ok(Poll::Ready(Outcome::Gone)) | Err(_) => drop(self.held.remove(key)),
        }
    }

    /// Old deadlines never outnumber the entries by much.
    fn forget_old_deadlines(&mut self) {
        if self.deadlines.len() > 2 * self.held.len() + TURN {
            let held = &self.held;
            self.deadlines.retain(|Reverse((at, key))| {
                held.get(*key).is_some_and(|entry| entry.deadline == Some(*at))
            });
        }
    }

    /// The memory of many that have gone is not kept.
    fn give_back(&mut self) {
        if self.held.capacity() > TURN {
            self.held = Slab::new();
            self.deadlines = BinaryHeap::new();
            self.pass = Vec::new();
        }
    }

    /// The next whose deadline has come.
    fn pop_due(&mut self, now: Instant) -> Option<usize> {
        while let Some(Reverse((at, key))) = self.deadlines.peek().copied() {
            if at > now {
                return None;
            }
            self.deadlines.pop();
            if let Some(entry) = self.held.get_mut(key)
                && entry.deadline == Some(at)
            {
                entry.deadline = None;
                return Some(key);
            }
        }
        None
    }

    /// Ready when the first deadline has come, or the rest is over.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let first = self.deadlines.peek().map(|Reverse((first, _))| *first + GRAIN);
        let Some(until) = first.into_iter().chain(self.rests_until).min() else {
            return Poll::Pending;
        };
        self.timer.poll_until(until, cx)
    }
}

/// Those that something has happened to.
#[derive(Default)]
struct Ready(Mutex<ReadyState>);

#[derive(Default)]
struct ReadyState {
    keys: Vec<usize>,
    reactor: Option<Waker>,
}

impl Ready {
    /// Moves the keys to `pass`, which is empty, and says whether there were any.
    /// If not, the next key wakes `reactor`.
    fn take(&self, pass: &mut Vec<usize>, reactor: &Waker) -> bool {
        let mut state = self.0.lock();
        if state.keys.is_empty() {
            match &mut state.reactor {
                Some(known) => known.clone_from(reactor),
                none => *none = Some(reactor.clone()),
            }
            return false;
        }
        std::mem::swap(&mut state.keys, pass);
        drop(state);
        // The first that was woken comes first.
        pass.reverse();
        true
    }

    fn wake(&self, key: usize) {
        let mut state = self.0.lock();
        state.keys.push(key);
        let reactor = state.reactor.take();
        drop(state);
        if let Some(reactor) = reactor {
            reactor.wake();
        }
    }
}

/// Wakes one of those that are held.
struct Wakes {
    ready: Arc<Ready>,
    key: usize,
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.ready.wake(self.key);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.wake(self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::task::JoinHandle;

    use super::*;

    /// Counts how often it is polled, and does then what it was told to.
    struct Counter {
        polls: Arc<AtomicUsize>,
        every: Option<Duration>,
        due: Option<Instant>,
        /// Where its waker goes when it is polled first.
        wakers: Option<mpsc::UnboundedSender<Waker>>,
        then: fn(usize, &Waker) -> Poll<Outcome>,
    }

    impl Held for Counter {
        type Rest = usize;

        fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
            let polls = self.polls.fetch_add(1, Ordering::Relaxed) + 1;
            self.due = self.every.map(|every| Instant::now() + every);
            if let Some(wakers) = self.wakers.take() {
                wakers.send(cx.waker().clone()).unwrap();
            }
            (self.then)(polls, cx.waker())
        }

        fn due(&self) -> Option<Instant> {
            self.due
        }

        fn into_rest(self) -> usize {
            self.polls.load(Ordering::Relaxed)
        }
    }

    fn counter(
        every: Option<Duration>,
        then: fn(usize, &Waker) -> Poll<Outcome>,
    ) -> (Arc<AtomicUsize>, Counter) {
        let polls = Arc::default();
        (Arc::clone(&polls), Counter { polls, every, due: None, wakers: None, then })
    }

    /// A reactor at work, and what it gives back.
    fn start() -> (Arrivals<Counter>, mpsc::UnboundedReceiver<usize>, JoinHandle<()>) {
        let (departures, departed) = mpsc::unbounded_channel();
        let (handle, reactor) = Reactor::new(departures);
        (handle, departed, tokio::spawn(reactor.run()))
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_due_is_polled_when_it_is_due_and_what_is_over_is_given_back() {
        let (handle, mut departed, running) = start();
        let every = |seconds| Some(Duration::from_secs(seconds));
        let (slow, held) = counter(every(10), |_, _| Poll::Pending);
        assert!(handle.send(held).is_ok());
        let (_, held) = counter(every(1), |polls, _| match polls {
            5 => Poll::Ready(Outcome::Done),
            _ => Poll::Pending,
        });
        assert!(handle.send(held).is_ok());
        let begun = Instant::now();
        assert_eq!(departed.recv().await, Some(5));
        let took = begun.elapsed();
        assert!(took >= Duration::from_secs(4) && took < Duration::from_millis(4100), "{took:?}");
        tokio::time::sleep(Duration::from_secs(17)).await;
        assert_eq!(slow.load(Ordering::Relaxed), 3);
        running.abort();
    }

    #[tokio::test]
    async fn each_is_polled_when_it_is_woken_and_a_turn_ends_though_one_wakes_itself_always() {
        let (handle, mut departed, running) = start();
        let (_, restless) = counter(None, |_, waker| {
            waker.wake_by_ref();
            Poll::Pending
        });
        assert!(handle.send(restless).is_ok());
        for _ in 0..1000 {
            let (_, held) = counter(None, |polls, waker| {
                if polls == 3 {
                    return Poll::Ready(Outcome::Done);
                }
                waker.wake_by_ref();
                Poll::Pending
            });
            assert!(handle.send(held).is_ok());
        }
        for _ in 0..1000 {
            assert_eq!(departed.recv().await, Some(3));
        }
        running.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_woken_during_a_rest_is_polled_behind_it() {
        let (handle, mut departed, running) = start();
        let (wakers, mut given) = mpsc::unbounded_channel();
        let mut held = Vec::new();
        for _ in 0..2 * TURN {
            let wakers = wakers.clone();
            let (polls, mut counter) = counter(None, |polls, _| match polls {
                3 => Poll::Ready(Outcome::Done),
                _ => Poll::Pending,
            });
            counter.wakers = Some(wakers);
            held.push(polls);
            assert!(handle.send(counter).is_ok());
        }
        let mut all = Vec::new();
        while all.len() < held.len() {
            all.push(given.recv().await.unwrap());
        }
        // A large pass, behind which it rests, and one that is woken then.
        all.iter().for_each(Waker::wake_by_ref);
        while held.iter().any(|polls| polls.load(Ordering::Relaxed) < 2) {
            tokio::task::yield_now().await;
        }
        all[7].wake_by_ref();
        assert_eq!(departed.recv().await, Some(3));
        running.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_of_one_that_has_gone_is_not_its_successors_and_none_are_heaped_up() {
        let (departures, mut departed) = mpsc::unbounded_channel();
        let (handle, mut reactor) = Reactor::new(departures);
        let hour = Some(Duration::from_secs(3600));
        for _ in 0..10 * TURN {
            // Each is in the place of the one before it.
            let (_, held) = counter(hour, |polls, waker| match polls {
                2 => Poll::Ready(Outcome::Done),
                _ => {
                    waker.wake_by_ref();
                    Poll::Pending
                }
            });
            assert!(handle.send(held).is_ok());
            let turn = poll_fn(|cx| Poll::Ready(reactor.poll_turn(cx)));
            assert!(coop::unconstrained(turn).await.is_pending());
            assert_eq!(departed.try_recv(), Ok(2));
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert!(reactor.deadlines.len() <= 2 * TURN, "{}", reactor.deadlines.len());
        let (polls, held) = counter(None, |_, _| Poll::Pending);
        assert!(handle.send(held).is_ok());
        let running = tokio::spawn(reactor.run());
        tokio::time::sleep(Duration::from_secs(7200)).await;
        assert_eq!(polls.load(Ordering::Relaxed), 1);
        running.abort();
    }

    #[tokio::test]
    async fn a_panic_ends_one_and_the_reactor_ends_with_the_last() {
        let (handle, mut departed, running) = start();
        let (_, held) = counter(None, |polls, _| {
            assert_eq!(polls, 0, "a bug of the test's own");
            Poll::Pending
        });
        assert!(handle.send(held).is_ok());
        let (_, held) = counter(None, |_, _| Poll::Ready(Outcome::Gone));
        assert!(handle.send(held).is_ok());
        let second = Some(Duration::from_millis(1));
        let (_, held) = counter(second, |polls, _| match polls {
            2 => Poll::Ready(Outcome::Done),
            _ => Poll::Pending,
        });
        assert!(handle.send(held).is_ok());
        drop(handle);
        assert_eq!(departed.recv().await, Some(2));
        assert_eq!(departed.recv().await, None);
        running.await.unwrap();
    }
}
