//! A task of a gateway: one of its own futures, polled when the dice say so.

use std::{
    pin::Pin,
    task::{Context, Waker},
};

use crate::turns::Turns;

/// A task, and what it waits for: the database, the relay, each with turns of its own.
pub struct Part {
    turns: Vec<Turns>,
    task: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Part {
    /// One that waits for these turns.
    pub fn new(turns: Vec<Turns>, task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { turns, task: Box::pin(task) }
    }

    /// Whether it waits for a turn of kind `kind`.
    pub fn is_waiting(&self, kind: usize) -> bool {
        self.turns[kind].are_wanted()
    }

    /// Goes on, with a turn of kind `kind` for one that waits for it; `false`: none does.
    pub fn go_on(&mut self, kind: usize, dice: &mut fastrand::Rng) -> bool {
        let has_turn = self.turns[kind].give(dice);
        let ended = self.task.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(ended.is_pending(), "it never ends");
        has_turn
    }

    /// Goes on until it waits for its clock.
    pub fn finish(&mut self, dice: &mut fastrand::Rng) {
        const MOST: usize = 200;
        for _ in 0..MOST {
            let mut has_turn = false;
            for kind in 0..self.turns.len() {
                has_turn |= self.go_on(kind, dice);
            }
            if !has_turn && !self.turns.iter().any(Turns::are_wanted) {
                return;
            }
        }
    }

    /// One of its connections breaks; `false`: it has none.
    pub fn cut(&self, dice: &mut fastrand::Rng) -> bool {
        let first = dice.usize(0..self.turns.len());
        let (before, from) = self.turns.split_at(first);
        from.iter().chain(before).any(|turns| turns.cut(dice))
    }
}
