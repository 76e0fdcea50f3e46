//! How each user's last stream here ended, so that a reconnect can be counted
//! under its reason.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;

use crate::{notification::UserId, outcome::StreamEnd};

/// Remembers this many users. One forgotten makes a reconnect count as
/// `unknown`, nothing worse; 10,000 of them take under a megabyte.
const MAX_USERS: usize = 10_000;

/// The last ends, the oldest forgotten first.
#[derive(Default)]
pub struct RecentEnds {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    by_user: HashMap<UserId, StreamEnd>,
    oldest_first: VecDeque<UserId>,
}

impl RecentEnds {
    /// A stream of `user` ended so.
    pub fn record(&self, user: &UserId, end: StreamEnd) {
        let mut state = self.state.lock();
        if state.by_user.insert(user.clone(), end).is_some() {
            return;
        }
        state.oldest_first.push_back(user.clone());
        if state.oldest_first.len() > MAX_USERS
            && let Some(oldest) = state.oldest_first.pop_front()
        {
            state.by_user.remove(&oldest);
        }
    }

    /// How `user`'s last stream here ended.
    pub fn last(&self, user: &UserId) -> Option<StreamEnd> {
        self.state.lock().by_user.get(user).copied()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_last_end_counts_and_the_memory_is_bounded() {
        let ends = RecentEnds::default();
        let user = |n| UserId::uuid(Uuid::from_u128(n));
        ends.record(&user(0), StreamEnd::Disconnected);
        ends.record(&user(0), StreamEnd::Shutdown);
        assert_eq!(ends.last(&user(0)).map(StreamEnd::reason), Some("shutdown"));
        for n in 1..=MAX_USERS as u128 {
            ends.record(&user(n), StreamEnd::Disconnected);
        }
        assert_eq!(ends.last(&user(0)), None);
        assert_eq!(ends.state.lock().by_user.len(), MAX_USERS);
    }
}
