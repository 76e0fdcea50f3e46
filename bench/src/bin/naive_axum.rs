//! A peer: what a good engineer writes in an afternoon with axum, sqlx's
//! listener and a broadcast channel for each user. Tokens are verified and there
//! are heartbeats; there is no cursor, so what is written while a client is away
//! is lost.
//!
//! `naive_axum BIND DATABASE_URL CHANNEL HEARTBEAT_SECONDS JWT_SECRET`

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header::AUTHORIZATION},
    response::sse::{Event, KeepAlive, Sse},
    routing::get,
    serve::ListenerExt as _,
};
use futures_util::{Stream, StreamExt as _, stream};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde::Deserialize;
use serde_json::value::RawValue;
use sqlx::postgres::PgListener;
use tokio::{
    net::TcpListener,
    sync::broadcast::{self, error::RecvError},
};
use uuid::Uuid;

/// Rows a slow client may be behind before it loses some.
const CAPACITY: usize = 256;

struct App {
    channels: Mutex<HashMap<Uuid, broadcast::Sender<Arc<str>>>>,
    key: DecodingKey,
    validation: Validation,
    heartbeat: Duration,
}

#[derive(Deserialize)]
struct Claims {
    sub: Uuid,
}

#[derive(Deserialize)]
struct Payload<'a> {
    user_id: Uuid,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || {
        arguments
            .next()
            .context("naive_axum BIND DATABASE_URL CHANNEL HEARTBEAT_SECONDS JWT_SECRET")
    };
    let (bind, url, channel) = (next()?, next()?, next()?);
    let heartbeat = Duration::from_secs(next()?.parse()?);
    let app = Arc::new(App {
        channels: Mutex::default(),
        key: DecodingKey::from_secret(next()?.as_bytes()),
        validation: Validation::new(Algorithm::HS256),
        heartbeat,
    });
    let mut rows = PgListener::connect(&url).await?;
    rows.listen(&channel).await?;
    tokio::spawn(publish(rows, Arc::clone(&app)));
    let router = Router::new().route("/api/notifications/stream", get(open)).with_state(app);
    let listener = TcpListener::bind(&bind).await?.tap_io(|stream| {
        // The first event of a stream that is already gone.
        let _set = stream.set_nodelay(true);
    });
    axum::serve(listener, router).await.context("serving")
}

async fn publish(mut rows: PgListener, app: Arc<App>) -> Result<(), sqlx::Error> {
    loop {
        // It reconnects by itself.
        let notification = rows.recv().await?;
        let Ok(payload) = serde_json::from_str::<Payload<'_>>(notification.payload()) else {
            continue;
        };
        if let Some(channel) = app.channels().get(&payload.user_id) {
            // Nobody there any more: nothing lost.
            let _receivers = channel.send(payload.data.get().into());
        }
    }
}

async fn open(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, StatusCode> {
    let user = app.user(&headers).ok_or(StatusCode::UNAUTHORIZED)?;
    let connected = Event::default().event("connected").data("{}");
    let heartbeat = Event::default().event("heartbeat").data("{}");
    let rows = stream::unfold(app.subscribe(user), |mut subscription| async {
        let row = subscription.next().await?;
        Some((Event::default().event("notification").data(row), subscription))
    });
    let events = stream::once(async { connected }).chain(rows).map(Ok);
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(app.heartbeat).event(heartbeat)))
}

impl App {
    fn user(&self, headers: &HeaderMap) -> Option<Uuid> {
        let token = headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")?;
        let token = decode::<Claims>(token, &self.key, &self.validation).ok()?;
        Some(token.claims.sub)
    }

    fn subscribe(self: &Arc<Self>, user: Uuid) -> Subscription {
        let rows = self
            .channels()
            .entry(user)
            .or_insert_with(|| broadcast::channel(CAPACITY).0)
            .subscribe();
        Subscription { rows, _leaving: Leaving { app: Arc::clone(self), user } }
    }

    fn channels(&self) -> MutexGuard<'_, HashMap<Uuid, broadcast::Sender<Arc<str>>>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Subscription {
    /// Dropped first, so that the one who is leaving is not counted.
    rows: broadcast::Receiver<Arc<str>>,
    _leaving: Leaving,
}

impl Subscription {
    async fn next(&mut self) -> Option<Arc<str>> {
        loop {
            match self.rows.recv().await {
                Ok(row) => return Some(row),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

/// Takes the user's channel away with its last stream.
struct Leaving {
    app: Arc<App>,
    user: Uuid,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let mut channels = self.app.channels();
        if channels.get(&self.user).is_some_and(|channel| channel.receiver_count() == 0) {
            channels.remove(&self.user);
        }
    }
}
