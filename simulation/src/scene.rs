//! What every part of a history shares: the dice, the sabotage, the trace.

use std::io::Write as _;

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
    /// Whether steps are told.
    pub trace: bool,
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
        if self.trace {
            // Nobody reads a trace whose pipe is closed.
            let _gone = writeln!(std::io::stdout().lock(), "{:>4}  {}", self.clock, what());
        }
    }
}
