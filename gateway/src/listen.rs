//! What the gateway hears from the database. `postgres/listen.rs` listens to
//! Postgres; the simulation to its own.

mod error;

pub use error::{ListenError, SETUP_TIMEOUT};

/// How a LISTEN connection is made.
pub trait Listen: Send + Sync + 'static {
    /// The connection.
    type Notices: Notices;

    /// A connection on which LISTEN holds.
    fn listen(&self) -> impl Future<Output = Result<Self::Notices, ListenError>> + Send;

    /// Waits until another way to the database is set: an attempt by it may
    /// succeed at once.
    fn changed(&self) -> impl Future<Output = ()> + Send;
}

impl<L: Listen> Listen for std::sync::Arc<L> {
    type Notices = L::Notices;

    fn listen(&self) -> impl Future<Output = Result<Self::Notices, ListenError>> + Send {
        L::listen(self)
    }

    fn changed(&self) -> impl Future<Output = ()> + Send {
        L::changed(self)
    }
}

/// A connection on which LISTEN holds.
pub trait Notices: Send {
    /// The next notification, in the order of the commits.
    fn next(&mut self) -> impl Future<Output = Result<Notice, ListenError>> + Send;
}

/// What makes one gateway the source and no other, as long as its connection lives.
pub trait Leadership: Send + Sync + 'static {
    /// Held while it is the source.
    type Lead: Lead;

    /// Waits until no other gateway is the source. `stand_by` is called when there is one.
    fn acquire(
        &self,
        stand_by: impl Fn() + Send,
    ) -> impl Future<Output = Result<Self::Lead, ListenError>> + Send;
}

/// The lead. Dropped, it is another's.
pub trait Lead: Send {
    /// Waits until it is lost, and says why.
    fn lost(&mut self) -> impl Future<Output = ListenError> + Send;
}

/// A notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// On the channel of the triggers: a row, a ring, or anything a person typed.
    Payload(String),
    /// The probe of this sweep of ours.
    Probe(u64),
}
