//! The way from a source to its edges: NATS, and the simulation's own.

use std::time::SystemTime;

use super::BatchError;

/// A stream of batches that keeps what was appended for a while.
pub trait Relay: Send + Sync + 'static {
    /// Reads it.
    type Reader: Reader;
    /// Resolves when an append is known to have happened.
    type Appended: Future<Output = Result<(), RelayError>> + Send + 'static;

    /// Reads on behind `place`, if the stream is still the same and has what follows; else
    /// from the newest message on.
    fn read(
        &self,
        behind: Option<&Place>,
    ) -> impl Future<Output = Result<Self::Reader, RelayError>> + Send;

    /// Where its end is.
    fn newest(&self) -> impl Future<Output = Result<Newest, RelayError>> + Send;

    /// Appends a message as number `number`, and as no other. Resolves when it is on its way;
    /// further ones may follow before it has arrived.
    fn append(
        &self,
        number: u64,
        message: Vec<u8>,
    ) -> impl Future<Output = Result<Self::Appended, RelayError>> + Send;

    /// Asks the source for a watermark before its time. It may get lost: the next one comes anyway.
    fn want_watermark(&self) -> impl Future<Output = ()> + Send;

    /// Waits until an edge has asked for one.
    fn watermark_wanted(&self) -> impl Future<Output = ()> + Send;
}

/// Reads a relay's messages in their order.
pub trait Reader: Send {
    /// The number of the last message that was there when reading began.
    fn newest(&self) -> u64;

    /// The next one.
    fn next(&mut self) -> impl Future<Output = Result<Message, RelayError>> + Send;
}

/// A message of a relay.
#[derive(Clone, Debug)]
pub struct Message {
    /// Where it stands.
    pub place: Place,
    /// When the relay had it, by the relay's clock.
    pub appended_at: Option<SystemTime>,
    /// A batch, if a source wrote it.
    pub bytes: Vec<u8>,
}

/// Where a message stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Tells this stream from another that had its name before.
    pub stream: String,
    /// Its number there.
    pub number: u64,
}

/// The end of a stream.
#[derive(Clone, Debug)]
pub struct Newest {
    /// The number of the last message that was appended, kept or not; 0 if none was.
    pub number: u64,
    /// That message, if it is still kept.
    pub bytes: Option<Vec<u8>>,
    /// Bytes that the next one may have.
    pub max_message: usize,
}

/// Why nothing comes over the relay.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// It cannot be reached, or refuses.
    #[error("the relay (--relay, GATEWAY_RELAY) does not work: {0}")]
    Failed(String),
    /// There is no stream yet.
    #[error("no gateway has been the source yet, so the relay has no stream")]
    NoStream,
    /// It does not say in time whether it has taken a message.
    #[error("the relay does not answer")]
    TimedOut,
    /// Another gateway has appended where this one was about to.
    #[error("another gateway has become the source")]
    Overtaken,
    /// No source has said anything for some time.
    #[error("no source is heard over the relay")]
    Silent,
    /// What it has cannot be read.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// What it has does not belong to this database.
    #[error(transparent)]
    Epoch(#[from] super::OtherEpoch),
}
