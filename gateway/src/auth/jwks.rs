//! Keys that their issuer publishes (RFC 7517), fetched and kept.
//!
//! What was fetched last holds until something better comes: an issuer that is
//! down, or answers nonsense, locks out nobody whose key is known.

use std::{
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use jsonwebtoken::jwk::Jwk;
use parking_lot::Mutex;
use rustls::ClientConfig;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{Notify, watch};

use super::{
    keys::VerifyingKey,
    proxy::{ProxiedConnector, is_local},
};
use crate::backoff::Backoff;

/// How old the keys get.
const REFRESH: Duration = Duration::from_secs(10 * 60);

/// The least time between two fetches that tokens ask for: anybody can make up
/// a token with a key of a new name.
const MIN_INTERVAL: Duration = Duration::from_secs(30);

/// How long a fetch may take, and how long a request waits for one.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Waits between two attempts while the issuer does not answer, before jitter.
const BACKOFF_MIN: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// A set of some keys is a few kilobytes.
const MAX_BYTES: usize = 256 * 1024;
const MAX_KEYS: usize = 100;

/// Where keys are published.
#[derive(Clone, Debug)]
pub struct JwksSource {
    /// The URL of the set.
    pub url: Uri,
    /// Who is believed to be its host.
    pub tls: Arc<ClientConfig>,
    /// How its host is reached.
    pub connector: ProxiedConnector,
}

impl JwksSource {
    /// Whether nobody on the way can put in keys of their own: TLS, or a host
    /// that is this one.
    pub fn is_safe(&self) -> bool {
        is_local(&self.url) || self.url.scheme_str() == Some("https")
    }
}

/// The published keys.
pub struct KeySet {
    url: Uri,
    client: Client<HttpsConnector<ProxiedConnector>, Empty<Bytes>>,
    keys: ArcSwap<Vec<VerifyingKey>>,
    wanted: Notify,
    /// The last fetch that a token asked for.
    asked: Mutex<Option<Asked>>,
    /// How many fetches have ended.
    fetched: watch::Sender<u64>,
}

#[derive(Clone, Copy)]
struct Asked {
    at: Instant,
    /// How many fetches had ended then.
    ended: u64,
}

/// What became of a fetch: how many keys are known now, or why those from
/// before stay.
pub type Fetched = Result<usize, FetchError>;

impl KeySet {
    pub(super) fn new(source: JwksSource) -> Self {
        let connector = source.connector.with_tls(ClientConfig::clone(&source.tls));
        // One request in ten minutes: a connection kept would only be a dead one.
        let mut client = Client::builder(TokioExecutor::new());
        Self {
            url: source.url,
            client: client.pool_max_idle_per_host(0).build(connector),
            keys: ArcSwap::default(),
            wanted: Notify::new(),
            asked: Mutex::new(None),
            fetched: watch::Sender::new(0),
        }
    }

    /// The keys as they are known now.
    pub(super) fn keys(&self) -> Arc<Vec<VerifyingKey>> {
        self.keys.load_full()
    }

    /// Whether none is known.
    pub(super) fn is_empty(&self) -> bool {
        self.keys.load().is_empty()
    }

    /// Whether there is a key of this name; not, if there is no name.
    pub(super) fn names(&self, id: Option<&str>) -> bool {
        id.is_some() && self.keys.load().iter().any(|key| key.id() == id)
    }

    /// Waits for the outcome of one more fetch, if there may be one now.
    pub(super) async fn look_again(&self) {
        let mut fetched = self.fetched.subscribe();
        let before = *fetched.borrow_and_update();
        if self.may_wait(before) {
            let fetch = fetched.wait_for(|fetched| *fetched > before);
            let _in_time = tokio::time::timeout(FETCH_TIMEOUT, fetch).await;
        }
    }

    /// Asks for a fetch, unless the last one that was asked for is too young;
    /// whether there is one to wait for, when so many have ended.
    fn may_wait(&self, ended: u64) -> bool {
        let mut asked = self.asked.lock();
        match *asked {
            Some(last) if last.at.elapsed() < MIN_INTERVAL => last.ended == ended,
            _ => {
                *asked = Some(Asked { at: Instant::now(), ended });
                self.wanted.notify_one();
                true
            }
        }
    }

    /// Fetches again before its time.
    pub fn refresh(&self) {
        self.wanted.notify_one();
    }

    /// Fetches, and goes on fetching; tells `report` of each outcome.
    pub async fn run(&self, mut report: impl FnMut(&Fetched)) {
        let mut backoff = Backoff::new(BACKOFF_MIN, BACKOFF_MAX);
        loop {
            let outcome = self.fetch().await.map(|keys| {
                let count = keys.len();
                self.keys.store(Arc::new(keys));
                count
            });
            report(&outcome);
            self.fetched.send_modify(|fetched| *fetched += 1);
            let wait = if outcome.is_ok() {
                backoff.reset();
                REFRESH
            } else {
                backoff.next_wait()
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.wanted.notified() => {}
            }
        }
    }

    async fn fetch(&self) -> Result<Vec<VerifyingKey>, FetchError> {
        let body = tokio::time::timeout(FETCH_TIMEOUT, self.get()).await;
        Ok(parse_key_set(&body.map_err(|_| FetchError::Slow)??)?)
    }

    async fn get(&self) -> Result<Bytes, FetchError> {
        let request = Request::get(self.url.clone())
            .header(header::ACCEPT, "application/jwk-set+json, application/json")
            .header(header::USER_AGENT, concat!("notify-gateway/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())
            .map_err(|error| FetchError::Request(error.into()))?;
        let response = self.client.request(request).await;
        let response = response.map_err(|error| FetchError::Request(error.into()))?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), MAX_BYTES).collect().await;
        Ok(body.map_err(FetchError::Request)?.to_bytes())
    }
}

/// The keys of a set that sign tokens. Others are left out: an issuer may publish
/// keys for other uses, or of kinds that are not supported yet.
///
/// # Errors
///
/// It is not a set, or none of its keys can be used.
pub fn parse_key_set(json: &[u8]) -> Result<Vec<VerifyingKey>, KeySetError> {
    #[derive(Deserialize)]
    struct Document {
        keys: Vec<Value>,
    }
    let document: Document = serde_json::from_slice(json).map_err(|_| KeySetError::NotASet)?;
    if document.keys.len() > MAX_KEYS {
        return Err(KeySetError::TooMany);
    }
    let keys: Vec<VerifyingKey> = document
        .keys
        .into_iter()
        .filter_map(|key| serde_json::from_value::<Jwk>(key).ok())
        .filter_map(|key| VerifyingKey::published(&key))
        .collect();
    if keys.is_empty() { Err(KeySetError::NoKeys) } else { Ok(keys) }
}

/// Why a document holds no keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// It is something else.
    #[error(
        "it is not a JSON Web Key Set; JSON of the form {{\"keys\": [...]}} is needed (RFC 7517)"
    )]
    NotASet,
    /// A set of keys for something else.
    #[error(
        "the key set has no RSA, EC (P-256, P-384) or Ed25519 public key that signs tokens; \
         symmetric keys and keys with \"use\": \"enc\" are left out"
    )]
    NoKeys,
    /// More than an issuer has.
    #[error("the key set has more than {MAX_KEYS} keys")]
    TooMany,
}

/// Why there are no new keys.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The host cannot be reached, or breaks off.
    #[error("the host of the key set cannot be reached")]
    Request(#[source] Box<dyn Error + Send + Sync>),
    /// It takes too long.
    #[error("the host of the key set took longer than {FETCH_TIMEOUT:?}")]
    Slow,
    /// It answers otherwise; a redirect is not followed.
    #[error("the host of the key set answered {0} and not 200 OK; redirects are not followed")]
    Status(StatusCode),
    /// What it sent holds no keys.
    #[error("the answer of the key set's host cannot be used: {0}")]
    KeySet(#[from] KeySetError),
}
