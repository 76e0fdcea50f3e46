//! The relay as a gateway reaches it: [`Relay`] over the simulated server. Each request waits
//! for a turn; one that does not reach the server fails, or is never answered.

use std::{future::poll_fn, pin::Pin, task::Poll};

use notify_gateway::relay::{Batch, Link, Message, Newest, Place, Reader, Relay, RelayError};

use crate::{
    relay::{Delivered, Kept},
    sabotage::Sabotage,
    server::{Server, Shared},
    turns::Turns,
};

/// A gateway's way to the relay.
#[derive(Clone)]
pub struct RelayClient {
    /// To whom.
    pub shared: Shared,
    /// When it goes on.
    pub turns: Turns,
    /// Whose.
    pub nonce: u32,
}

impl RelayClient {
    /// Waits for the server, which may not be reached.
    async fn reach(&self) -> Result<(), RelayError> {
        self.turns.turn().await;
        let is_said = {
            let Server { relay, scene, .. } = &mut *self.shared.lock();
            if relay.is_reached_by(self.nonce) {
                return Ok(());
            }
            scene.dice.bool()
        };
        if is_said { Err(failed("it cannot be reached")) } else { std::future::pending().await }
    }

    fn tell(&self, what: impl FnOnce() -> String) {
        self.shared.lock().scene.tell(|| format!("gateway {}: {}", self.nonce, what()));
    }
}

fn failed(why: &str) -> RelayError {
    RelayError::Failed(why.to_owned())
}

impl Relay for RelayClient {
    type Reader = RelayReader;
    type Appended = Pin<Box<dyn Future<Output = Result<(), RelayError>> + Send>>;

    async fn read(&self, behind: Option<&Place>) -> Result<RelayReader, RelayError> {
        self.reach().await?;
        let reader = {
            let relay = &mut self.shared.lock().relay;
            let place = behind.map(|place| (place.stream.as_str(), place.number));
            let id = relay.consume(self.nonce, place);
            let (client, newest) = (self.clone(), relay.newest().0);
            RelayReader { client, id, stream: relay.identity(), newest }
        };
        self.tell(|| format!("reads the relay behind {behind:?}"));
        Ok(reader)
    }

    async fn newest(&self) -> Result<Newest, RelayError> {
        self.reach().await?;
        let server = &mut *self.shared.lock();
        let (number, mut bytes) = server.relay.newest();
        if server.scene.is_without(Sabotage::RelayBeginning) {
            bytes = bytes.map(|bytes| patched(bytes, |batch| claim_all(batch, server)));
        }
        server.scene.tell(|| format!("gateway {}: finds {number} messages", self.nonce));
        const MAX: usize = 1024 * 1024;
        Ok(Newest { number, bytes, max_message: MAX })
    }

    async fn append(&self, number: u64, message: Vec<u8>) -> Result<Self::Appended, RelayError> {
        let id = {
            let server = &mut *self.shared.lock();
            let message = if server.scene.is_without(Sabotage::RelayWatermark) {
                patched(message, |batch| claim_all(batch, server))
            } else {
                message
            };
            let Server { relay, scene, .. } = server;
            scene.tell(|| format!("gateway {}: sends {number}: {}", self.nonce, shown(&message)));
            relay.send(self.nonce, number, message)
        };
        let client = self.clone();
        Ok(Box::pin(async move { client.acknowledged(id).await }))
    }

    async fn want_watermark(&self) {
        let Server { relay, .. } = &mut *self.shared.lock();
        if relay.is_reached_by(self.nonce) {
            relay.want();
        }
    }

    async fn watermark_wanted(&self) {
        poll_fn(|_| {
            let relay = &mut self.shared.lock().relay;
            let hears = relay.is_reached_by(self.nonce);
            if hears && relay.take_wanted() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

impl RelayClient {
    async fn acknowledged(&self, id: u64) -> Result<(), RelayError> {
        self.reach().await?;
        let answer = {
            let Server { relay, scene, .. } = &mut *self.shared.lock();
            relay.answer(id, &mut scene.dice)
        };
        let Some(is_taken) = answer else { return std::future::pending().await };
        self.reach().await?;
        if is_taken { Ok(()) } else { Err(RelayError::Overtaken) }
    }
}

/// Reads the stream.
pub struct RelayReader {
    client: RelayClient,
    id: u64,
    /// The stream's identity when it began: what the library does behind it is not seen.
    stream: String,
    newest: u64,
}

impl Reader for RelayReader {
    fn newest(&self) -> u64 {
        self.newest
    }

    async fn next(&mut self) -> Result<Message, RelayError> {
        loop {
            poll_fn(|_| if self.has_news() { Poll::Ready(()) } else { Poll::Pending }).await;
            self.client.turns.turn().await;
            let server = &mut *self.client.shared.lock();
            match server.relay.take(self.id) {
                Delivered::Nothing => {}
                Delivered::End => return Err(failed("the consumer has ended")),
                Delivered::Message(Kept { number, bytes }) => {
                    let nonce = self.client.nonce;
                    server
                        .scene
                        .tell(|| format!("gateway {nonce}: reads {number}: {}", shown(&bytes)));
                    let bytes = tampered(bytes, nonce, server);
                    let place = Place { stream: self.stream.clone(), number };
                    return Ok(Message { place, appended_at: None, bytes });
                }
            }
        }
    }
}

impl RelayReader {
    fn has_news(&self) -> bool {
        self.client.shared.lock().relay.has_news(self.id)
    }
}

impl Drop for RelayReader {
    fn drop(&mut self) {
        self.client.shared.lock().relay.leave(self.id);
    }
}

/// What an edge reads without one of its safeguards.
fn tampered(bytes: Vec<u8>, nonce: u32, server: &mut Server) -> Vec<u8> {
    let Server { scene, heard, .. } = server;
    match scene.without {
        Some(Sabotage::RelayChain) => patched(bytes, |batch| {
            let last: Option<Link> = heard.insert(nonce, batch.link);
            batch.after = last.or(batch.after);
        }),
        Some(Sabotage::RelayLost) => patched(bytes, |batch| batch.is_lost = false),
        // An edge that does not know the epoch yet asks the database for it.
        Some(Sabotage::RelayEpoch) => patched(bytes, |batch| {
            batch.is_lost &= batch.begins.take().is_none();
        }),
        _ => bytes,
    }
}

/// The batch claims what there is at this moment, told or not.
fn claim_all(batch: &mut Batch, server: &Server) {
    if batch.epoch == server.postgres.epoch()
        && let Ok(now) = server.postgres.snapshot().parse()
    {
        batch.watermark = now;
    }
}

fn patched(bytes: Vec<u8>, patch: impl FnOnce(&mut Batch)) -> Vec<u8> {
    let Ok(mut batch) = Batch::decode(&bytes) else { return bytes };
    patch(&mut batch);
    batch.encode().unwrap_or(bytes)
}

/// A message for the trace.
fn shown(bytes: &[u8]) -> String {
    match Batch::decode(bytes) {
        Ok(batch) => {
            let Batch { link, after, epoch, begins, is_lost, told, watermark } = batch;
            let after = after.map(|link| (link.lead % 1000, link.number));
            let begins = begins.map(|epochs| epochs.current());
            format!(
                "{}/{} after {after:?}, epoch {epoch}, begins {begins:?}, lost {is_lost}, {told:?}, watermark {watermark}",
                link.lead % 1000,
                link.number
            )
        }
        Err(error) => error.to_string(),
    }
}
