//! What every part of a history shares: the dice, the sabotage, the trace.

use std::io::Write as _;

use parking_lot::Mutex;

use crate::{plan::Plan, sabotage::Sabotage};

/// Passed to whatever takes a step.
pub struct Scene {
    /// Every choice of a history comes out of this.
    pub dice: fastrand::Rng,
    /// The parameters of this history.
    pub plan: Plan,
    /// The safeguard that is missing.
    pub without: Option<Sabotage>,
    /// The number of the step.
    pub clock: u64,
    /// Where steps are told.
    pub trace: Trace,
}

/// What becomes of what is told.
#[derive(Debug)]
pub enum Trace {
    /// Nothing: that is most of the speed.
    Off,
    /// It is printed at once.
    Print,
    /// It is kept.
    Keep(Mutex<Vec<String>>),
}

impl Scene {
    /// True with a probability of `percent` in a hundred.
    pub fn chance(&mut self, percent: u8) -> bool {
        self.dice.u8(0..100) < percent
    }

    /// Whether `safeguard` is missing.
    pub fn is_without(&self, safeguard: Sabotage) -> bool {
        self.without == Some(safeguard)
    }

    /// Tells what happens, in a history that is traced.
    pub fn tell(&self, what: impl FnOnce() -> String) {
        let line = |what: String| format!("{:>4}  {what}", self.clock);
        match &self.trace {
            Trace::Off => {}
            Trace::Print => {
                // Nobody reads a trace whose pipe is closed.
                let _gone = writeln!(std::io::stdout().lock(), "{}", line(what()));
            }
            Trace::Keep(lines) => lines.lock().push(line(what())),
        }
    }
}
