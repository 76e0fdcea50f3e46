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
            (&Method::POST, "/demo/read") => self.mark_read(form(request).await?).await,
            _ => Err(DemoError(StatusCode::NOT_FOUND, "there is nothing at this path".into())),
        }
    }

    async fn list(&self, query: Option<&str>) -> Result<Response<ResponseBody>, DemoError> {
        let user: Uuid = query
            .and_then(|query| query.strip_prefix("user_id="))
            .and_then(|user| user.parse().ok())
            .ok_or_else(|| DemoError(StatusCode::BAD_REQUEST, "user_id must be a UUID".into()))?;
        let client = self.pool.get().await?;
        let list = client
            .query_one(
                "SELECT coalesce(json_agg(newest), '[]')::text
                 FROM (SELECT * FROM notifications WHERE user_id = $1
                       ORDER BY created_at DESC LIMIT 20) newest",
                &[&user],
            )
            .await?;
        let body: String = list.try_get(0)?;
        Ok(response(StatusCode::OK, "application/json", body))
    }

    async fn insert(&self, row: NewRow) -> Result<Response<ResponseBody>, DemoError> {
        let client = self.pool.get().await?;
        client
            .execute(
                "INSERT INTO notifications (user_id, type, title, message) VALUES ($1, $2, $3, $4)",
                &[&row.user_id, &row.r#type, &row.title, &row.message],
            )
            .await?;
        Ok(response(StatusCode::CREATED, "application/json", "{}"))
    }

    async fn mark_read(&self, user: Reader) -> Result<Response<ResponseBody>, DemoError> {
        let client = self.pool.get().await?;
        let update =
            "UPDATE notifications SET status = 'read' WHERE user_id = $1 AND status = 'unread'";
        client.execute(update, &[&user.user_id]).await?;
        Ok(response(StatusCode::NO_CONTENT, "application/json", ""))
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
