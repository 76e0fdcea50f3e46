//! The waits between attempts at something that does not answer, and the
//! jitter that keeps many clients and gateways from acting in the same instant.

use std::time::Duration;

/// Waits that are doubled from `min` up to `max`, each jittered down to half of
/// itself. Something that has succeeded begins with a new one.
#[derive(Clone, Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// The shortest and the longest wait, before jitter.
    pub const fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, failures: 0 }
    }

    /// How long to wait now.
    pub fn next_wait(&mut self) -> Duration {
        // Past 2^20 every wait here is at its longest.
        let doubled = self.min.saturating_mul(1 << self.failures.min(20));
        self.failures = self.failures.saturating_add(1);
        let longest = doubled.min(self.max);
        jitter(longest / 2, longest / 2)
    }

    /// Begins anew.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A random time between `least` and `least + spread`.
pub fn jitter(least: Duration, spread: Duration) -> Duration {
    least + spread.mul_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_stay_there_and_begin_anew() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(5));
        let mut backoff = Backoff::new(min, max);
        for expected in [100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            let expected = Duration::from_millis(expected);
            let wait = backoff.next_wait();
            assert!(wait >= expected / 2 && wait <= expected, "{wait:?} of {expected:?}");
        }
        for _ in 0..100 {
            assert!(backoff.next_wait() <= max);
        }
        backoff.reset();
        assert!(backoff.next_wait() <= min);
    }
}
