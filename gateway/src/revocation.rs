//! Whose tokens are refused although they are valid: "log out everywhere".
//!
//! The table `notify_gateway.revocation` says who and from when on;
//! `revocation_watch.rs` reads it. A gateway that starts has read
//! all of it before it lets anyone in.

use std::{collections::HashMap, time::SystemTime};

use parking_lot::RwLock;

use crate::{
    auth::{Identity, TokenError},
    notification::UserId,
};

/// Tokens of `user` that were issued before `before` are refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Revocation {
    /// Whose.
    pub user: UserId,
    /// Seconds since 1970; infinite for a user who is locked out.
    pub before: f64,
}

impl Revocation {
    /// Whether a token of this user, issued then, is refused. One that does not
    /// say when it was issued may be as old as any.
    pub fn refuses(&self, issued_at: Option<SystemTime>) -> bool {
        is_before(issued_at, self.before)
    }
}

fn is_before(issued_at: Option<SystemTime>, before: f64) -> bool {
    let since_1970 = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).ok();
    let issued_at = issued_at.and_then(since_1970).map(|since| since.as_secs_f64());
    issued_at.is_none_or(|issued_at| issued_at < before)
}

/// All revocations, the latest of each user.
#[derive(Debug, Default)]
pub struct Revocations {
    by_user: RwLock<HashMap<UserId, f64>>,
}

impl Revocations {
    /// Adds one; an earlier one of the same user changes nothing. Whether it
    /// was news.
    pub fn add(&self, revocation: &Revocation) -> bool {
        let mut by_user = self.by_user.write();
        let before = by_user.entry(revocation.user.clone()).or_insert(f64::NEG_INFINITY);
        let is_news = revocation.before > *before;
        *before = before.max(revocation.before);
        is_news
    }

    /// These are all there are: what is not among them is undone. Returns those
    /// that were news.
    pub fn replace(&self, all: &[Revocation]) -> Vec<Revocation> {
        let mut fresh: HashMap<UserId, f64> = HashMap::with_capacity(all.len());
        for Revocation { user, before } in all {
            // One user may be written in several ways.
            let latest = fresh.entry(user.clone()).or_insert(*before);
            *latest = latest.max(*before);
        }
        let before = std::mem::replace(&mut *self.by_user.write(), fresh);
        let is_news = |revocation: &&Revocation| {
            before.get(&revocation.user).is_none_or(|before| revocation.before > *before)
        };
        all.iter().filter(is_news).cloned().collect()
    }

    /// Whether the token of `identity` still counts.
    ///
    /// # Errors
    ///
    /// [`TokenError::Revoked`], or [`TokenError::RevokedWithoutIssueTime`] where the token does
    /// not say when it was issued.
    pub fn admit(&self, identity: &Identity) -> Result<(), TokenError> {
        if !self.refuse(&identity.user, identity.issued_at) {
            return Ok(());
        }
        Err(match identity.issued_at {
            Some(_) => TokenError::Revoked,
            None => TokenError::RevokedWithoutIssueTime,
        })
    }

    /// Whether a token of `user`, issued then, is refused.
    pub fn refuse(&self, user: &UserId, issued_at: Option<SystemTime>) -> bool {
        let before = self.by_user.read().get(user).copied();
        before.is_some_and(|before| is_before(issued_at, before))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ADA: UserId = UserId::uuid(uuid::Uuid::from_u128(1));
    const BOB: UserId = UserId::uuid(uuid::Uuid::from_u128(2));

    fn at(seconds: u64) -> Option<SystemTime> {
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }

    #[test]
    fn the_latest_counts_and_only_for_its_user() {
        let revocations = Revocations::default();
        assert!(!revocations.refuse(&ADA, None));
        assert!(revocations.add(&Revocation { user: ADA, before: 100.0 }));
        assert!(!revocations.add(&Revocation { user: ADA, before: 50.0 }));
        assert!(revocations.refuse(&ADA, at(99)) && revocations.refuse(&ADA, None));
        assert!(!revocations.refuse(&ADA, at(100)));
        assert!(!revocations.refuse(&BOB, at(1)));
        assert!(revocations.add(&Revocation { user: ADA, before: f64::INFINITY }));
        assert!(revocations.refuse(&ADA, at(u64::from(u32::MAX))));
    }

    #[test]
    fn what_is_gone_from_the_table_is_undone_and_what_is_new_is_told() {
        let revocations = Revocations::default();
        let of = |user, before| Revocation { user, before };
        revocations.add(&of(ADA, 100.0));
        assert_eq!(revocations.replace(&[of(ADA, 50.0), of(BOB, 70.0)]), [of(BOB, 70.0)]);
        assert!(revocations.refuse(&ADA, at(49)) && !revocations.refuse(&ADA, at(50)));
        assert_eq!(revocations.replace(&[of(ADA, 60.0)]), [of(ADA, 60.0)]);
        assert!(!revocations.refuse(&BOB, at(1)));
    }
}
