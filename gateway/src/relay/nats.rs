//! The relay on NATS JetStream: one stream with one subject of its name.
//!
//! <https://docs.nats.io/nats-concepts/jetstream>

use std::{
    io,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_nats::{
    Client, ConnectOptions, Event, Subscriber,
    jetstream::{
        self, ErrorCode,
        consumer::{
            DeliverPolicy,
            push::{self, OrderedConfig},
        },
        context::{GetStreamErrorKind, PublishErrorKind},
        message::PublishMessage,
        stream::{Config, DiscardPolicy, StorageType, Stream},
    },
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tokio::sync::Mutex as AsyncMutex;

use super::{Message, Newest, Place, Reader, Relay, RelayError};
use crate::{
    config::{RelayConfig, RelayCredentials, RelayStorage},
    error::chain,
};

/// Longest wait for one answer of a server.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// A connection that gives no answer to two of these is dead.
const PING_INTERVAL: Duration = Duration::from_secs(2);

/// Messages that an edge has not taken yet; NATS stops sending long before, and what does not
/// fit is a gap.
const MAX_UNREAD: usize = 4096;

/// A relay on NATS.
pub struct NatsRelay {
    client: Client,
    jetstream: jetstream::Context,
    stream: Config,
    /// Where edges ask for a watermark, by NATS alone: the stream does not keep it.
    wants: String,
    /// Hears them, once this gateway is the source.
    wanted: AsyncMutex<Option<Subscriber>>,
    complaint: Complaint,
}

/// How a relay's stream is.
#[derive(Clone, Debug)]
pub struct Look {
    /// The server's version.
    pub version: String,
    /// How long ago a source has said something, by the server's clock.
    pub said_ago: Option<Duration>,
    /// How many edges read it.
    pub edges: usize,
}

/// What the connection has met last, which no request says.
type Complaint = Arc<Mutex<Option<String>>>;

impl NatsRelay {
    /// A relay that connects as soon as it can, and again whenever it has to.
    ///
    /// # Errors
    ///
    /// Credentials or certificates that cannot be used.
    pub async fn connect(config: &RelayConfig) -> Result<Self, NatsError> {
        let complaint = Complaint::default();
        let heard = Arc::clone(&complaint);
        let mut options = ConnectOptions::new()
            .name("notify-gateway")
            .retry_on_initial_connect()
            .connection_timeout(REQUEST_TIMEOUT)
            .request_timeout(Some(REQUEST_TIMEOUT))
            .ping_interval(PING_INTERVAL)
            .subscription_capacity(MAX_UNREAD)
            .event_callback(move |event| {
                let heard = Arc::clone(&heard);
                async move { note(&event, &heard) }
            });
        options = match &config.credentials {
            RelayCredentials::None => options,
            RelayCredentials::Token(token) => options.token(token.expose().to_owned()),
            RelayCredentials::Password(user, password) => {
                options.user_and_password(user.clone(), password.expose().to_owned())
            }
            RelayCredentials::NKey(seed) => options.nkey(seed.expose().to_owned()),
            RelayCredentials::File(text) => {
                options.credentials(text.expose()).map_err(NatsError::Credentials)?
            }
        };
        if let Some(file) = &config.ca_file {
            options = options.add_root_certificates(file.clone());
        }
        if let Some((certificate, key)) = &config.identity {
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
        let client = options
            .connect(config.servers.0.clone())
            .await
            .map_err(|error| NatsError::Connect(chain(&error)))?;
        let mut jetstream = jetstream::new(client.clone());
        jetstream.set_timeout(REQUEST_TIMEOUT);
        let stream = Config {
            name: config.stream.clone(),
            subjects: vec![config.stream.clone()],
            description: Some("what notify-gateway tells its edges".to_owned()),
            storage: match config.storage {
                RelayStorage::Memory => StorageType::Memory,
                RelayStorage::File => StorageType::File,
            },
            discard: DiscardPolicy::Old,
            max_age: config.max_age,
            max_bytes: config.max_bytes,
            num_replicas: config.replicas,
            ..Config::default()
        };
        let (wants, wanted) = (format!("{}.wants", config.stream), AsyncMutex::default());
        Ok(Self { client, jetstream, stream, wants, wanted, complaint })
    }

    /// How the stream is; `None` if no source has made it yet.
    ///
    /// # Errors
    ///
    /// NATS cannot be asked.
    pub async fn look(&self) -> Result<Option<Look>, RelayError> {
        let stream = match self.stream().await {
            Ok(stream) => stream,
            Err(RelayError::NoStream) => return Ok(None),
            Err(error) => return Err(error),
        };
        let state = &stream.cached_info().state;
        let said_at = (state.messages > 0).then(|| SystemTime::from(state.last_timestamp));
        Ok(Some(Look {
            version: self.client.server_info().version,
            said_ago: said_at.map(|at| at.elapsed().unwrap_or_default()),
            edges: state.consumer_count,
        }))
    }

    async fn stream(&self) -> Result<Stream, RelayError> {
        let found = self.jetstream.get_stream(&self.stream.name).await;
        found.map_err(|error| match error.kind() {
            GetStreamErrorKind::JetStream(said)
                if said.error_code() == ErrorCode::STREAM_NOT_FOUND =>
            {
                RelayError::NoStream
            }
            _ => self.failed(&error),
        })
    }

    fn failed(&self, error: &dyn std::error::Error) -> RelayError {
        complained(&self.complaint, error)
    }
}

/// An error, with what the connection has met: the one seldom says what the other does.
fn complained(complaint: &Complaint, error: &dyn std::error::Error) -> RelayError {
    let error = chain(error);
    RelayError::Failed(match complaint.lock().as_deref() {
        Some(complaint) if complaint != error => format!("{complaint} ({error})"),
        _ => error,
    })
}

fn note(event: &Event, complaint: &Complaint) {
    match event {
        Event::Connected => *complaint.lock() = None,
        Event::ClientError(error) => *complaint.lock() = Some(error.to_string()),
        Event::ServerError(error) => *complaint.lock() = Some(error.to_string()),
        _ => {}
    }
    tracing::debug!(%event, "relay");
}

/// Why there can be no connection to NATS with these settings.
#[derive(Debug, thiserror::Error)]
pub enum NatsError {
    /// The credentials.
    #[error(
        "--relay-credentials-file (GATEWAY_RELAY_CREDENTIALS_FILE) is no credentials file of NATS"
    )]
    Credentials(#[source] io::Error),
    /// Anything else.
    #[error("--relay (GATEWAY_RELAY) cannot be used: {0}")]
    Connect(String),
}

impl Relay for NatsRelay {
    type Reader = NatsReader;
    type Appended = Pin<Box<dyn Future<Output = Result<(), RelayError>> + Send>>;

    async fn read(&self, behind: Option<&Place>) -> Result<NatsReader, RelayError> {
        let stream = self.stream().await?;
        let info = stream.cached_info();
        let made = info.created.unix_timestamp_nanos().to_string();
        let kept = info.state.first_sequence..=info.state.last_sequence + 1;
        let behind =
            behind.filter(|place| place.stream == made && kept.contains(&(place.number + 1)));
        let deliver_policy = behind.map_or(DeliverPolicy::Last, |place| {
            DeliverPolicy::ByStartSequence { start_sequence: place.number + 1 }
        });
        let config = OrderedConfig {
            deliver_subject: self.client.new_inbox(),
            name: Some(format!("edge_{:016x}", fastrand::u64(..))),
            description: Some("an edge of notify-gateway".to_owned()),
            deliver_policy,
            ..OrderedConfig::default()
        };
        let consumer = stream.create_consumer(config).await.map_err(|error| self.failed(&error))?;
        let messages = consumer.messages().await.map_err(|error| self.failed(&error))?;
        Ok(NatsReader { messages, stream: made, newest: info.state.last_sequence })
    }

    async fn newest(&self) -> Result<Newest, RelayError> {
        let stream = self.jetstream.get_or_create_stream(self.stream.clone()).await;
        let stream = stream.map_err(|error| self.failed(&error))?;
        let info = stream.cached_info();
        let number = info.state.last_sequence;
        let bytes = match info.state.messages {
            0 => None,
            // It may have been dropped since.
            _ => stream.get_raw_message(number).await.ok().map(|message| message.payload.to_vec()),
        };
        let of_server = self.client.server_info().max_payload;
        // Without a limit of its own the stream says -1.
        let of_stream = usize::try_from(info.config.max_message_size).ok().filter(|max| *max > 0);
        let max_message = of_stream.map_or(of_server, |max| max.min(of_server));
        Ok(Newest { number, bytes, max_message })
    }

    async fn append(&self, number: u64, message: Vec<u8>) -> Result<Self::Appended, RelayError> {
        let message =
            PublishMessage::build().payload(message.into()).expected_last_sequence(number - 1);
        let sent = self.jetstream.send_publish(self.stream.name.clone(), message).await;
        let acknowledged = sent.map_err(|error| self.failed(&error))?;
        let complaint = Arc::clone(&self.complaint);
        Ok(Box::pin(async move {
            match acknowledged.await {
                Ok(acknowledged) if acknowledged.sequence == number => Ok(()),
                Ok(_) => Err(RelayError::Overtaken),
                Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => {
                    Err(RelayError::Overtaken)
                }
                Err(error) => Err(complained(&complaint, &error)),
            }
        }))
    }

    async fn want_watermark(&self) {
        let _best_effort = self.client.publish(self.wants.clone(), Bytes::new()).await;
    }

    async fn watermark_wanted(&self) {
        let mut wanted = self.wanted.lock().await;
        if wanted.is_none() {
            *wanted = self.client.subscribe(self.wants.clone()).await.ok();
        }
        let want = match wanted.as_mut() {
            Some(subscriber) => subscriber.next().await,
            None => None,
        };
        if want.is_none() {
            *wanted = None;
            tokio::time::sleep(REQUEST_TIMEOUT).await;
        }
    }
}

/// Reads the stream.
pub struct NatsReader {
    messages: push::Ordered,
    stream: String,
    newest: u64,
}

impl Reader for NatsReader {
    fn newest(&self) -> u64 {
        self.newest
    }

    async fn next(&mut self) -> Result<Message, RelayError> {
        let ended = || RelayError::Failed("the consumer has ended".to_owned());
        let message = self.messages.next().await.ok_or_else(ended)?;
        let message = message.map_err(|error| RelayError::Failed(chain(&error)))?;
        let info = message.info().map_err(|error| RelayError::Failed(error.to_string()))?;
        let place = Place { stream: self.stream.clone(), number: info.stream_sequence };
        let appended_at = Some(info.published.into());
        Ok(Message { place, appended_at, bytes: message.payload.to_vec() })
    }
}
