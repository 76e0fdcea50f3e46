//! The demo page and the small application behind it, on the gateway's own
//! port. It writes rows as any application would and knows nothing of the
//! gateway.

use std::{convert::Infallible, future::Future, pin::Pin, sync::Arc};

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use http_body_util::{BodyExt as _, Limited};
use hyper::{
    Method, Response, StatusCode,
    body::Bytes,
    header::{CONTENT_TYPE, HeaderValue},
    service::Service,
};
use notify_gateway::{
    http::{ResponseBody, Routes},
    server::ServerRequest,
};
use serde::{Deserialize, Serialize};
use tokio_postgres::NoTls;
use uuid::Uuid;

const PAGE: &str = include_str!("page.html");

/// A form's worth, and what the server reads of a body.
const MAX_FORM_BYTES: usize = 16 * 1024;

/// As many as the page's list grows to.
const MAX_LISTED: i64 = 200;

/// The list and the count of one instant.
const LIST: &str = "
    SELECT json_build_object(
        'notifications',
        (SELECT coalesce(json_agg(newest), '[]')
           FROM (SELECT * FROM notifications WHERE user_id = $1 AND status <> 'archived'
                  ORDER BY created_at DESC, id LIMIT $2) newest),
        'unreadCount',
        (SELECT count(*) FROM notifications WHERE user_id = $1 AND status = 'unread'))::text";
const MARK_READ: &str = "UPDATE notifications SET status = 'read'
    WHERE user_id = $1 AND id = ANY ($2) AND status = 'unread'";
const MARK_UNREAD: &str = "UPDATE notifications SET status = 'unread'
    WHERE user_id = $1 AND id = ANY ($2) AND status = 'read'";
const MARK_ALL_READ: &str = "UPDATE notifications SET status = 'read'
    WHERE user_id = $1 AND status = 'unread'";
const DELETE: &str = "DELETE FROM notifications WHERE user_id = $1 AND id = ANY ($2)";

/// A user of the demo, as the page gets it.
#[derive(Debug, Serialize)]
pub(super) struct DemoUser {
    pub(super) name: &'static str,
    pub(super) user_id: Uuid,
    pub(super) token: String,
    pub(super) curl: String,
    pub(super) psql: String,
}

/// The gateway's routes and the demo's beside them.
#[derive(Clone)]
pub(super) struct Demo {
    routes: Routes,
    application: Arc<Application>,
}

struct Application {
    pool: Pool,
    users: Vec<DemoUser>,
}

/// A small pool for the demo's queries.
pub(super) fn pool(
    database: &tokio_postgres::Config,
) -> Result<Pool, deadpool_postgres::BuildError> {
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Verified };
    let manager = Manager::from_config(database.clone(), NoTls, recycling);
    Pool::builder(manager).max_size(4).runtime(Runtime::Tokio1).build()
}

impl Demo {
    pub(super) fn new(routes: Routes, pool: Pool, users: Vec<DemoUser>) -> Self {
        Self { routes, application: Arc::new(Application { pool, users }) }
    }
}

impl Service<ServerRequest> for Demo {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: ServerRequest) -> Self::Future {
        let path = request.uri().path();
        if path != "/" && !path.starts_with("/demo/") {
            return self.routes.call(request);
        }
        let application = Arc::clone(&self.application);
        Box::pin(async move {
            Ok(application.answer(request).await.unwrap_or_else(DemoError::into_response))
        })
    }
}

impl Application {
    async fn answer(&self, request: ServerRequest) -> Result<Response<ResponseBody>, DemoError> {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/") => Ok(response(StatusCode::OK, "text/html; charset=utf-8", PAGE)),
            (&Method::GET, "/demo/config") => {
                #[derive(Serialize)]
                struct Users<'a> {
                    users: &'a [DemoUser],
                }
                let body = serde_json::to_string(&Users { users: &self.users })?;
                Ok(response(StatusCode::OK, "application/json", body))
            }
            (&Method::GET, "/demo/notifications") => self.list(request.uri().query()).await,
            (&Method::POST, "/demo/notifications") => self.insert(form(request).await?).await,
            (&Method::POST, "/demo/read") => self.change(MARK_READ, form(request).await?).await,
            (&Method::POST, "/demo/unread") => self.change(MARK_UNREAD, form(request).await?).await,
            (&Method::POST, "/demo/delete") => self.change(DELETE, form(request).await?).await,
            (&Method::POST, "/demo/read-all") => self.mark_all_read(form(request).await?).await,
            _ => Err(DemoError(StatusCode::NOT_FOUND, "there is nothing at this path".into())),
        }
    }

    async fn list(&self, query: Option<&str>) -> Result<Response<ResponseBody>, DemoError> {
        let parameter = |name: &str| {
            query?.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
        };
        let user: Uuid = parameter("user_id")
            .and_then(|user| user.parse().ok())
            .ok_or_else(|| DemoError(StatusCode::BAD_REQUEST, "user_id must be a UUID".into()))?;
        self.know(user)?;
        let limit: i64 = parameter("limit").and_then(|limit| limit.parse().ok()).unwrap_or(20);
        let client = self.pool.get().await?;
        let list = client.query_one(LIST, &[&user, &limit.clamp(1, MAX_LISTED)]).await?;
        let body: String = list.try_get(0)?;
        Ok(response(StatusCode::OK, "application/json", body))
    }

    async fn insert(&self, row: NewRow) -> Result<Response<ResponseBody>, DemoError> {
        self.know(row.user_id)?;
        let client = self.pool.get().await?;
        let inserted = client
            .query_one(
                "INSERT INTO notifications (user_id, type, title, message)
                 VALUES ($1, $2, $3, $4) RETURNING id",
                &[&row.user_id, &row.r#type, &row.title, &row.message],
            )
            .await?;
        let id: Uuid = inserted.try_get(0)?;
        let body = serde_json::json!({"id": id}).to_string();
        Ok(response(StatusCode::CREATED, "application/json", body))
    }

    async fn change(&self, sql: &str, rows: Rows) -> Result<Response<ResponseBody>, DemoError> {
        self.know(rows.user_id)?;
        let client = self.pool.get().await?;
        client.execute(sql, &[&rows.user_id, &rows.ids]).await?;
        Ok(response(StatusCode::NO_CONTENT, "application/json", ""))
    }

    async fn mark_all_read(&self, reader: Reader) -> Result<Response<ResponseBody>, DemoError> {
        self.know(reader.user_id)?;
        let client = self.pool.get().await?;
        client.execute(MARK_ALL_READ, &[&reader.user_id]).await?;
        Ok(response(StatusCode::NO_CONTENT, "application/json", ""))
    }

    /// Nobody but the two users of the page: whose a request is, it only says
    /// itself.
    fn know(&self, user: Uuid) -> Result<(), DemoError> {
        if self.users.iter().any(|known| known.user_id == user) {
            return Ok(());
        }
        Err(DemoError(StatusCode::NOT_FOUND, "there is no such user in this demo".into()))
    }
}

#[derive(Deserialize)]
struct NewRow {
    user_id: Uuid,
    r#type: String,
    title: String,
    message: String,
}

#[derive(Deserialize)]
struct Rows {
    user_id: Uuid,
    ids: Vec<Uuid>,
}

#[derive(Deserialize)]
struct Reader {
    user_id: Uuid,
}

async fn form<T: for<'a> Deserialize<'a>>(request: ServerRequest) -> Result<T, DemoError> {
    // A page of another origin cannot send this type without a preflight, which
    // the demo never grants.
    let is_json = request
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
    if !is_json {
        let detail = "the body must be application/json".into();
        return Err(DemoError(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    let body = Limited::new(request.into_body(), MAX_FORM_BYTES);
    let body = body.collect().await.map_err(|error| {
        DemoError(StatusCode::PAYLOAD_TOO_LARGE, format!("the body cannot be read: {error}"))
    })?;
    Ok(serde_json::from_slice(&body.to_bytes())?)
}

fn response(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// What the page shows when something is wrong.
struct DemoError(StatusCode, String);

impl DemoError {
    fn into_response(self) -> Response<ResponseBody> {
        let title = self.0.canonical_reason().unwrap_or("Error");
        let body = serde_json::json!({"title": title, "status": self.0.as_u16(), "detail": self.1});
        response(self.0, "application/problem+json", body.to_string())
    }
}

impl From<serde_json::Error> for DemoError {
    fn from(error: serde_json::Error) -> Self {
        Self(StatusCode::BAD_REQUEST, error.to_string())
    }
}

impl From<tokio_postgres::Error> for DemoError {
    fn from(error: tokio_postgres::Error) -> Self {
        let detail = error.as_db_error().map_or_else(|| error.to_string(), |e| e.message().into());
        Self(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }
}

impl From<deadpool_postgres::PoolError> for DemoError {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}
