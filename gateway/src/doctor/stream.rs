//! Whether a stream that is asked for from outside comes through as it is sent.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Uri, Version, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde::Deserialize;
use tokio::time::timeout;

use super::{Finding, Verdict};
use crate::{
    auth::ProxiedConnector,
    error::chain,
    problem,
    stream::signs,
    tls::{self, Trust},
};

/// For the head of the answer, and then for the first event.
const PATIENCE: Duration = Duration::from_secs(10);

/// The gateway's own answers are a few hundred bytes.
const MAX_PROBLEM_BYTES: usize = 16 * 1024;

/// `heartbeat` is the gateway's.
pub(super) async fn examine(url: &Uri, token: Option<&str>, heartbeat: Duration) -> Finding {
    match look(url, token, heartbeat).await {
        Ok(finding) => finding,
        Err(error) => wrong(format!("{} cannot be asked: {}", shown(url), chain(error.as_ref()))),
    }
}

/// Without its query, which may hold a token.
fn shown(url: &Uri) -> String {
    url.to_string().split('?').next().unwrap_or_default().to_owned()
}

fn wrong(what: String) -> Finding {
    Finding::new("stream", Verdict::Wrong, what)
}

async fn look(
    url: &Uri,
    token: Option<&str>,
    heartbeat: Duration,
) -> Result<Finding, Box<dyn Error + Send + Sync>> {
    let tls = tls::client_config(Trust::of(url)?, None)?;
    let connector = ProxiedConnector::from_env(url)?.with_tls(tls);
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
    let mut request = Request::get(url.clone())
        .header(header::ACCEPT, "text/event-stream")
        // As a browser does: a proxy that compresses streams shows it.
        .header(header::ACCEPT_ENCODING, "gzip, deflate, br, zstd");
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let begun = Instant::now();
    let Ok(answer) = timeout(PATIENCE, client.request(request.body(Empty::new())?)).await else {
        return Ok(wrong(format!(
            "{} gives no answer within {PATIENCE:?}: a proxy that buffers the whole answer, or a \
             gateway that is not there",
            shown(url)
        )));
    };
    let answer = answer?;
    if let Some(finding) = refused(url, token.is_some(), &answer) {
        let detail = detail(answer).await;
        let what = format!("{} {detail}", finding.what);
        return Ok(Finding { what: what.trim_end().to_owned(), ..finding });
    }
    if let Some(finding) = transformed(url, answer.version(), answer.headers()) {
        return Ok(finding);
    }
    let head = begun.elapsed();
    let mut body = answer.into_body();
    let first = timeout(PATIENCE, first_event(&mut body)).await;
    let arrived = begun.elapsed();
    let url = shown(url);
    let buffers = |what: String| {
        wrong(format!("{url} {what}: a proxy buffers it"))
            .mended_by(
                "proxy_buffering off;  # nginx; and no proxy_ignore_headers X-Accel-Buffering",
            )
            .mended_by("flush_interval -1  # Caddy")
    };
    Ok(match first.as_deref() {
        Ok("connected") => {
            // Proxies send on at once what came with the head, and hold back what follows.
            // Where heartbeats are seldom there are comments.
            let patience = signs(heartbeat).1 + PATIENCE / 2;
            let sign = async {
                // What came in the same packet is no sign.
                while let Some(Ok(_)) = body.frame().await {
                    if begun.elapsed() - arrived > Duration::from_millis(500) {
                        break;
                    }
                }
            };
            if timeout(patience, sign).await.is_err() {
                return Ok(buffers(format!(
                    "begins to stream, and is silent for {patience:?} then"
                )));
            }
            let what = format!(
                "{url} streams: the head after {} ms, the first event after {} ms, and a sign of \
                 life {} s later",
                head.as_millis(),
                arrived.as_millis(),
                (begun.elapsed() - arrived).as_secs()
            );
            Finding::new("stream", Verdict::Ok, what)
        }
        Ok("closing") => {
            let what = format!("{url} is closed by the gateway at once: it is full, or starting");
            Finding::new("stream", Verdict::Warning, what)
        }
        Ok(_) => wrong(format!(
            "{url} answers with a stream that has no event and ends: the proxy stands in for a \
             gateway that it does not reach"
        )),
        Err(_) => buffers(format!("answers, and nothing of the stream comes within {PATIENCE:?}")),
    })
}

/// The name of the first event; empty where none comes before the end.
async fn first_event(body: &mut Incoming) -> String {
    let mut text = String::new();
    while text.len() < MAX_PROBLEM_BYTES {
        let Some(Ok(frame)) = body.frame().await else { break };
        text += &String::from_utf8_lossy(frame.data_ref().map_or(&[][..], |data| data));
        let name = text.lines().find_map(|line| line.strip_prefix("event: "));
        // What has its end is whole.
        if let Some(name) = name.filter(|_| text.contains("\n\n")) {
            return name.to_owned();
        }
    }
    String::new()
}

/// An answer that is no stream.
fn refused(url: &Uri, has_token: bool, answer: &Response<Incoming>) -> Option<Finding> {
    let url = shown(url);
    let status = answer.status();
    let content_type = answer.headers().get(header::CONTENT_TYPE);
    let is_of = |media_type: &str| {
        content_type.is_some_and(|value| value.as_bytes().starts_with(media_type.as_bytes()))
    };
    let (is_stream, is_problem) = (is_of("text/event-stream"), is_of(problem::CONTENT_TYPE));
    Some(match status {
        StatusCode::OK if is_stream => return None,
        StatusCode::NO_CONTENT => {
            wrong(format!("{url} answers 204: streaming is switched off, and browsers stop asking"))
                .mended_by("ENABLE_SSE_NOTIFICATIONS=true")
        }
        StatusCode::UNAUTHORIZED if !has_token => Finding::new(
            "stream",
            Verdict::Note,
            format!("{url} wants a token, as it should; with --token the stream is looked at"),
        ),
        // The gateway's own refusals are problem documents.
        _ if status.is_server_error() && !is_problem => {
            wrong(format!("{url} answers {status}: the proxy does not reach the gateway"))
        }
        StatusCode::NOT_FOUND if !is_problem => wrong(format!(
            "{url} answers {status}, and it is not the gateway that says so: the proxy or the \
             application knows no such path; pass it on to --bind (GATEWAY_BIND)"
        )),
        _ if status.is_success() => wrong(format!(
            "{url} answers with {content_type:?} and no stream: the application answers in the \
             gateway's place; the proxy has to pass this path on to --bind (GATEWAY_BIND)"
        )),
        _ => wrong(format!("{url} answers {status}.")),
    })
}

/// What a proxy has made of the stream.
fn transformed(url: &Uri, version: Version, headers: &HeaderMap) -> Option<Finding> {
    let url = shown(url);
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING) {
        let what = format!("{url} compresses the stream ({encoding:?}), which holds events back");
        return Some(
            wrong(what)
                .mended_by("GATEWAY_NO_TRANSFORM=true")
                .mended_by("gzip off;  # nginx, in this location"),
        );
    }
    if version < Version::HTTP_11 {
        let what = format!("{url} answers by {version:?}: a proxy ends each answer early");
        return Some(wrong(what).mended_by("proxy_http_version 1.1;  # nginx"));
    }
    None
}

/// What the gateway itself says of its refusal (RFC 9457), where it was the one.
async fn detail(answer: Response<Incoming>) -> String {
    #[derive(Deserialize)]
    struct Problem {
        detail: String,
    }
    let body = Limited::new(answer.into_body(), MAX_PROBLEM_BYTES).collect();
    let Ok(Ok(body)) = timeout(PATIENCE, body).await else { return String::new() };
    let problem = serde_json::from_slice(&body.to_bytes());
    problem.map_or_else(|_| String::new(), |Problem { detail }| format!("It says: {detail}"))
}
