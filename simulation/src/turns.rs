//! Turns: a part of a gateway that waits for the database goes on when the dice
//! say so, at each `await` of its own code.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;

/// Those who wait for a turn in one part of a gateway.
#[derive(Clone, Default)]
pub struct Turns(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    waiting: Vec<Waiting>,
    next_number: u64,
    /// The connections that are open.
    connections: Vec<Arc<AtomicBool>>,
}

struct Waiting {
    number: u64,
    waker: Waker,
    is_open: bool,
}

impl Turns {
    /// Waits for one.
    pub fn turn(&self) -> Turn {
        Turn { turns: self.clone(), number: None }
    }

    /// Gives one to somebody who waits for it. `false`: nobody does.
    pub fn give(&self, dice: &mut fastrand::Rng) -> bool {
        let mut state = self.0.lock();
        let closed: Vec<usize> =
            (0..state.waiting.len()).filter(|place| !state.waiting[*place].is_open).collect();
        if closed.is_empty() {
            return false;
        }
        let waiting = &mut state.waiting[closed[dice.usize(0..closed.len())]];
        waiting.is_open = true;
        waiting.waker.wake_by_ref();
        true
    }

    /// Whether somebody waits.
    pub fn are_wanted(&self) -> bool {
        !self.0.lock().waiting.is_empty()
    }

    /// A connection that is used, and can be cut.
    pub fn connection(&self, is_cut: &Arc<AtomicBool>) {
        self.0.lock().connections.push(Arc::clone(is_cut));
    }

    /// It is no longer there.
    pub fn forget(&self, connection: &Arc<AtomicBool>) {
        self.0.lock().connections.retain(|other| !Arc::ptr_eq(other, connection));
    }

    /// Breaks one of the connections. `false` when no connection is open.
    pub fn cut(&self, dice: &mut fastrand::Rng) -> bool {
        let state = self.0.lock();
        if state.connections.is_empty() {
            return false;
        }
        state.connections[dice.usize(0..state.connections.len())].store(true, Ordering::Relaxed);
        true
    }
}

/// A wait for a turn.
pub struct Turn {
    turns: Turns,
    number: Option<u64>,
}

impl Future for Turn {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let turns = self.turns.clone();
        let mut state = turns.0.lock();
        let Some(number) = self.number else {
            let number = state.next_number;
            state.next_number += 1;
            let waker = cx.waker().clone();
            state.waiting.push(Waiting { number, waker, is_open: false });
            self.number = Some(number);
            return Poll::Pending;
        };
        let Some(place) = state.waiting.iter().position(|waiting| waiting.number == number) else {
            return Poll::Ready(());
        };
        if !state.waiting[place].is_open {
            state.waiting[place].waker = cx.waker().clone();
            return Poll::Pending;
        }
        state.waiting.remove(place);
        Poll::Ready(())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.turns.0.lock().waiting.retain(|waiting| waiting.number != number);
        }
    }
}
