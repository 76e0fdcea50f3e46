//! Whom a dispatcher tells: the streams of this process, or other gateways.

use std::sync::Arc;

use super::{Hub, SweepRequests};
use crate::{cursor::Snapshot, feed::Row, horizon::Horizon, notification::UserId};

/// Hears what there is to tell, in its order, and never makes the one who tells it wait.
pub trait Audience: Send + Sync + 'static {
    /// What is wanted of the sweeper.
    fn requests(&self) -> &SweepRequests;

    /// How far everything has been told.
    fn horizon(&self) -> Arc<Horizon>;

    /// Whether nobody listens, so that nothing need be told.
    fn is_empty(&self) -> bool;

    /// Whether rows of `user` have to be told.
    fn wants(&self, user: &UserId) -> bool;

    /// A row of `user`; `encode` makes it if anybody is there for it.
    fn publish(&self, user: &UserId, encode: impl FnOnce() -> Row);

    /// The log has rows of `user` that are not told here: they are to be read there.
    fn lose(&self, user: &UserId);

    /// As [`Audience::lose`], for everybody.
    fn lose_all(&self);

    /// All that `watermark` sees has been told, and no crash takes it back.
    fn advance(&self, watermark: Arc<Snapshot>);

    /// Transaction numbers mean something else from here on.
    fn begin_epoch(&self, horizon: Horizon);
}

impl Audience for Hub {
    fn requests(&self) -> &SweepRequests {
        &self.requests
    }

    fn horizon(&self) -> Arc<Horizon> {
        Self::horizon(self)
    }

    fn is_empty(&self) -> bool {
        Self::is_empty(self)
    }

    fn wants(&self, user: &UserId) -> bool {
        self.connections(user) > 0
    }

    fn publish(&self, user: &UserId, encode: impl FnOnce() -> Row) {
        Self::publish(self, user, encode);
    }

    fn lose(&self, user: &UserId) {
        Self::lose(self, user);
    }

    fn lose_all(&self) {
        Self::lose_all(self);
    }

    fn advance(&self, watermark: Arc<Snapshot>) {
        Self::advance(self, watermark);
    }

    fn begin_epoch(&self, horizon: Horizon) {
        Self::begin_epoch(self, horizon);
    }
}
