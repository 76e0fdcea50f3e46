//! Traces: what a collector of OpenTelemetry gets.

use std::{collections::HashMap, convert::Infallible};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use nix::sys::signal::Signal;
use notify_gateway::http::STREAM_PATH;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use prost::Message as _;
use tokio::{net::TcpListener, sync::mpsc};
use uuid::Uuid;

use crate::support::{Database, EventSource, MESSAGE, PATIENCE, Process, token};

/// Takes OTLP over HTTP; the bodies as they come, with the paths that they came to.
async fn collector() -> (String, mpsc::UnboundedReceiver<(String, Bytes)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let tell = tell.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let tell = tell.clone();
                async move {
                    let path = request.uri().path().to_owned();
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    tell.send((path, body)).unwrap();
                    Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
                }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    (url, told)
}

fn attributes(all: &[KeyValue]) -> HashMap<String, String> {
    let text = |value: Value| match value {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let value = |pair: &KeyValue| text(pair.value.clone().unwrap().value.unwrap());
    all.iter().map(|pair| (pair.key.clone(), value(pair))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connect_and_its_replay_are_spans_of_the_callers_trace_and_hold_no_secret() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const CALLER: &str = "b7ad6b7169203331";
    let database = Database::new().await;
    let (url, mut told) = collector().await;
    // What is left at the end is sent then.
    let environment =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "3600000")];
    let mut process = Process::start_with(&database.url, &[], &environment).await;
    let user = Uuid::new_v4();
    let mut first = EventSource::open(process.address, user).await;
    let cursor = first.next().await.id.unwrap();
    drop(first);
    database.insert(user, "a title that is told to nobody else").await;
    let token = token(user);
    let target = format!("{STREAM_PATH}?access_token={token}");
    let traceparent = format!("00-{TRACE}-{CALLER}-01");
    let headers = [("last-event-id", cursor.as_str()), ("traceparent", traceparent.as_str())];
    let mut stream = EventSource::open_with(process.address, &target, &headers).await;
    assert_eq!(stream.next().await.name, "connected");
    assert_eq!(stream.next().await.title(), "a title that is told to nobody else");
    process.signal(Signal::SIGTERM);
    assert_eq!(stream.next().await.name, "closing");
    drop(stream);
    assert_eq!(process.ended().await.code(), Some(0));

    let mut spans: Vec<Span> = Vec::new();
    while let Ok((path, body)) = told.try_recv() {
        assert_eq!(path, "/v1/traces");
        for secret in [token.as_str(), "a title that", MESSAGE, cursor.as_str()] {
            let is_in = body.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!is_in, "a span holds {secret}");
        }
        for of_resource in ExportTraceServiceRequest::decode(body).unwrap().resource_spans {
            let resource = attributes(&of_resource.resource.unwrap().attributes);
            assert_eq!(resource["service.name"], "notify-gateway");
            spans.extend(of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let of_trace: Vec<_> = spans.iter().filter(|span| hex(&span.trace_id) == TRACE).collect();
    let named = |name: &str| {
        let found = of_trace.iter().find(|span| span.name == name);
        found.unwrap_or_else(|| panic!("no {name} in {of_trace:#?}"))
    };
    let connect = named(&format!("GET {STREAM_PATH}"));
    assert_eq!(hex(&connect.parent_span_id), CALLER);
    let of_connect = attributes(&connect.attributes);
    assert_eq!(of_connect["http.response.status_code"], "200");
    assert_eq!(of_connect["url.path"], STREAM_PATH);
    assert_eq!(of_connect["user.id"], user.to_string());
    let replay = named("replay");
    assert_eq!(replay.parent_span_id, connect.span_id);
    assert_eq!(attributes(&replay.attributes)["rows"], "1");
    // The first connect had no trace to go on with, and has one of its own.
    assert!(
        spans.iter().any(|span| hex(&span.trace_id) != TRACE && span.parent_span_id.is_empty())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_no_url_is_told_and_one_that_is_away_holds_nobody_up() {
    let database = Database::new().await;
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_notify-gateway"))
        .args(["--database-url", &database.url, "--jwt-secret", crate::support::SECRET])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "here and there")
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("OTEL_EXPORTER_OTLP_ENDPOINT"), "{said}");

    let environment = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")];
    let mut process = Process::start_with(&database.url, &[], &environment).await;
    let user = Uuid::new_v4();
    let mut stream = EventSource::open(process.address, user).await;
    assert_eq!(stream.next().await.name, "connected");
    database.insert(user, "hello").await;
    assert_eq!(stream.next().await.title(), "hello");
    drop(stream);
    process.signal(Signal::SIGTERM);
    let ended = tokio::time::timeout(PATIENCE, process.ended()).await.unwrap();
    assert_eq!(ended.code(), Some(0));
}
