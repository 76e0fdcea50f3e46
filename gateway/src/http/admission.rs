//! How often one may try.

use std::{hash::Hash, net::IpAddr, num::NonZeroU32};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::address::rate_key;
use crate::notification::UserId;

/// A keyed limiter remembers every key until it is told to forget those that
/// are at rest; it is told when it knows this many more than the last time.
const KEYS_BETWEEN_CLEANINGS: usize = 10_000;

/// Connection attempts a second, by client address and by user; the burst is
/// twice that.
pub(super) struct Admission {
    by_address: Option<Limit<IpAddr>>,
    by_user: Option<Limit<UserId>>,
}

impl Admission {
    /// Limits of so many attempts a second; 0 is no limit.
    pub(super) fn new(per_address: u32, per_user: u32) -> Self {
        Self { by_address: Limit::new(per_address), by_user: Limit::new(per_user) }
    }

    /// Counts an attempt from this address, and says whether it is one too
    /// many.
    pub(super) fn is_flooded_by(&self, address: IpAddr) -> bool {
        self.by_address.as_ref().is_some_and(|limit| limit.exceeds(&rate_key(address)))
    }

    /// Likewise of this user.
    pub(super) fn is_flooded_for(&self, user: &UserId) -> bool {
        self.by_user.as_ref().is_some_and(|limit| limit.exceeds(user))
    }
}

struct Limit<K: Hash + Eq + Clone> {
    limiter: DefaultKeyedRateLimiter<K>,
    clean_at: std::sync::atomic::AtomicUsize,
}

impl<K: Hash + Eq + Clone> Limit<K> {
    fn new(a_second: u32) -> Option<Self> {
        let rate = NonZeroU32::new(a_second)?;
        let burst = rate.saturating_mul(NonZeroU32::MIN.saturating_add(1));
        let quota = Quota::per_second(rate).allow_burst(burst);
        Some(Self { limiter: RateLimiter::keyed(quota), clean_at: KEYS_BETWEEN_CLEANINGS.into() })
    }

    fn exceeds(&self, key: &K) -> bool {
        use std::sync::atomic::Ordering::Relaxed;
        if self.limiter.len() >= self.clean_at.load(Relaxed) {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
            self.clean_at.store(self.limiter.len() + KEYS_BETWEEN_CLEANINGS, Relaxed);
        }
        self.limiter.check_key(key).is_err()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_twice_the_rate_passes_and_no_more_and_others_are_not_touched() {
        let admission = Admission::new(5, 0);
        let address = |n| IpAddr::from([192, 0, 2, n]);
        let passed = (0..30).filter(|_| !admission.is_flooded_by(address(1))).count();
        // At five a second a slow machine may earn one more meanwhile.
        assert!((10..=12).contains(&passed), "{passed}");
        assert!(!admission.is_flooded_by(address(2)));
    }

    #[test]
    fn zero_is_no_limit() {
        let admission = Admission::new(0, 0);
        let address = IpAddr::from([192, 0, 2, 1]);
        assert!((0..10_000).all(|_| !admission.is_flooded_by(address)));
    }

    #[test]
    fn keys_at_rest_are_forgotten() {
        let limit = Limit::new(1_000_000).unwrap();
        for n in 0..50_000_u32 {
            limit.exceeds(&n);
        }
        assert!(limit.limiter.len() <= 2 * KEYS_BETWEEN_CLEANINGS);
    }
}
