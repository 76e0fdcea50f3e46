//! docs/openapi.yaml, docs/stream.md and docs/problems.md say what a running gateway answers.

use std::{collections::BTreeSet, time::Duration};

use notify_gateway::{
    cursor::{Cursor, Snapshot},
    horizon::Resync,
    http::STREAM_PATH,
    outcome::{Refusal, StreamEnd},
    problem::Kind,
};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use uuid::Uuid;

use crate::support::{
    Database, Event, EventSource, OpenApi, TestGateway, request, token, token_for,
};

const STREAM_PAGE: &str = include_str!("../../docs/stream.md");
const PROBLEMS_PAGE: &str = include_str!("../../docs/problems.md");

/// The events of the stream, each compared with docs/openapi.yaml.
struct Said {
    api: OpenApi,
    names: BTreeSet<String>,
    reasons: BTreeSet<String>,
}

impl Said {
    fn new() -> Self {
        Self { api: OpenApi::read(), names: BTreeSet::new(), reasons: BTreeSet::new() }
    }

    /// The next event of `stream`.
    async fn next(&mut self, stream: &mut EventSource) -> Event {
        let event = stream.next().await;
        self.check(&event);
        event
    }

    /// Reads on to the event of this name.
    async fn until(&mut self, name: &str, stream: &mut EventSource) -> Event {
        loop {
            let event = self.next(stream).await;
            if event.name == name {
                return event;
            }
        }
    }

    fn check(&mut self, event: &Event) {
        let mut fields = json!({"event": event.name, "data": event.data});
        fields.as_object_mut().unwrap().extend(
            [("id", event.id.clone().map(Value::from)), ("retry", event.retry.map(Value::from))]
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), value?))),
        );
        let outcome = self.api.check(self.api.event(), &fields);
        assert_eq!(outcome, Ok(()), "{event:?}");
        self.has_no_field_that_is_not_described(event);
        self.names.insert(event.name.clone());
        if let Some(reason) = event.json().get("reason") {
            self.reasons.insert(reason.as_str().unwrap().to_owned());
        }
    }

    /// The schemas of the data are open, because a later gateway may say more. This one does not.
    fn has_no_field_that_is_not_described(&self, event: &Event) {
        let schema = match event.name.as_str() {
            "notification" | "updated" => "Notification".to_owned(),
            name => name[..1].to_uppercase() + &name[1..],
        };
        let schema = self.api.schema(&schema);
        assert_eq!(self.api.check(schema, &event.json()), Ok(()), "{event:?}");
        for field in event.json().as_object().unwrap().keys() {
            assert!(schema["properties"].get(field).is_some(), "{field} of {event:?}");
        }
    }
}

#[tokio::test]
async fn every_event_of_a_stream_is_as_openapi_yaml_says() {
    let mut said = Said::new();
    let database = Database::new().await;
    let flags = ["--heartbeat", "100ms", "--replay-limit", "5", "--jwt-leeway", "0s"];
    let gateway = TestGateway::start(&database.url, &flags).await;
    let user = Uuid::new_v4();
    let mut stream = EventSource::open(gateway.address, user).await;
    let connected = said.next(&mut stream).await;
    let id = connected.id.expect("an id");
    said.until("heartbeat", &mut stream).await;
    database.insert(user, "one").await;
    said.until("notification", &mut stream).await;
    database.psql("UPDATE notifications SET status = 'read'").await;
    said.until("updated", &mut stream).await;
    database.psql("DELETE FROM notifications").await;
    said.until("deleted", &mut stream).await;

    let many = format!(
        "INSERT INTO notifications (user_id, title, message)
         SELECT '{user}', n, '' FROM generate_series(1, 200) n"
    );
    database.psql(&many).await;
    for cursor in [&id, "garbage", &other_epoch(&id), &future(&id)] {
        let bearer = format!("Bearer {}", token(user));
        let headers = [("authorization", bearer.as_str()), ("last-event-id", cursor)];
        let mut resumed = EventSource::open_with(gateway.address, STREAM_PATH, &headers).await;
        said.until("resync", &mut resumed).await;
    }
    assert_eq!(said.reasons, resyncs());
    said.reasons.clear();

    // The other streams of this user would take the events of 200 rows to the end.
    let user = Uuid::new_v4();
    let mut ends = gateway.connect(user).await;
    database
        .psql(&format!("INSERT INTO notify_gateway.revocation (user_id) VALUES ('{user}')"))
        .await;
    assert_eq!(said.until("closing", &mut ends).await.json()["reason"], "revoked");
    let bearer = format!("Bearer {}", token_for(Uuid::new_v4(), Duration::from_secs(2)));
    let headers = [("authorization", bearer.as_str())];
    let mut ends = EventSource::open_with(gateway.address, STREAM_PATH, &headers).await;
    assert_eq!(said.until("closing", &mut ends).await.json()["reason"], "token_expired");
    let mut ends = gateway.connect(Uuid::new_v4()).await;
    gateway.stop();
    assert_eq!(said.until("closing", &mut ends).await.json()["reason"], "shutdown");
    let gateway = TestGateway::start(&database.url, &["--max-stream-age", "100ms"]).await;
    let mut ends = gateway.connect(Uuid::new_v4()).await;
    assert_eq!(said.until("closing", &mut ends).await.json()["reason"], "max_age");
    assert_eq!(said.reasons, closings());

    let names =
        ["closing", "connected", "deleted", "heartbeat", "notification", "resync", "updated"];
    assert!(said.names.iter().eq(names), "{:?}", said.names);
}

#[tokio::test]
async fn every_refusal_is_as_openapi_yaml_says() {
    let mut said = Said::new();
    let mut answers = Answers::new();
    let database = Database::new().await;
    let accept = ("accept", "text/event-stream");

    let flags = ["--max-streams", "2", "--max-streams-per-user", "1"];
    let gateway = TestGateway::start(&database.url, &flags).await;
    let (ada, grace) = (Uuid::new_v4(), Uuid::new_v4());
    let _streams = (gateway.connect(ada).await, gateway.connect(grace).await);
    for user in [ada, Uuid::new_v4()] {
        let bearer = format!("Bearer {}", token(user));
        let headers = [("authorization", bearer.as_str()), accept];
        answers.ask(&gateway, "GET", STREAM_PATH, &headers[..1]).await;
        let mut refused = EventSource::open_with(gateway.address, STREAM_PATH, &headers).await;
        assert_eq!(said.next(&mut refused).await.id, None);
        assert_eq!(refused.next_or_end().await, None);
    }
    let flags = ["--user-connect-rate", "1"];
    let gateway = TestGateway::start(&database.url, &flags).await;
    let bearer = format!("Bearer {}", token(ada));
    let headers = [("authorization", bearer.as_str()), accept];
    for _ in 0..10 {
        request(gateway.address, "GET", STREAM_PATH, &headers).await;
    }
    answers.ask(&gateway, "GET", STREAM_PATH, &headers[..1]).await;
    let mut refused = EventSource::open_with(gateway.address, STREAM_PATH, &headers).await;
    said.next(&mut refused).await;

    let nowhere = "postgres://nobody@127.0.0.1:1/nothing";
    let gateway = TestGateway::start_unready(nowhere, &[]).await;
    answers.ask(&gateway, "GET", STREAM_PATH, &headers[..1]).await;
    let mut refused = EventSource::open_with(gateway.address, STREAM_PATH, &headers).await;
    said.next(&mut refused).await;
    // Nothing listens there: the key set never comes.
    let flags = ["--jwt-jwks-url", "http://127.0.0.1:1/keys"];
    let gateway = TestGateway::start_without_secret(nowhere, &flags).await;
    answers.ask(&gateway, "GET", STREAM_PATH, &headers[..1]).await;

    // `shutdown` is the reason of open streams as well.
    let mut reasons = refusals();
    assert!(reasons.remove("shutdown"));
    assert_eq!(said.reasons, reasons);
    let kinds = ["full", "no-keys", "rate-limited", "starting", "too-many-streams"];
    assert!(answers.kinds.iter().eq(kinds), "{:?}", answers.kinds);
}

#[tokio::test]
async fn every_answer_of_the_public_port_is_as_openapi_yaml_says() {
    let mut answers = Answers::new();
    let database = Database::new().await;
    let flags = ["--jwt-cookie", "session"];
    let gateway = TestGateway::start(&database.url, &flags).await;
    let [good, other] = [token(Uuid::new_v4()), token(Uuid::new_v4())];
    let bearer = format!("Bearer {good}");
    let cookie = format!("session={good}");
    let two = format!("{STREAM_PATH}?access_token={other}");
    let long = "x".repeat(20_000);
    let no_query = format!("{STREAM_PATH}?last_event_id=%zz");
    let authorization = ("authorization", bearer.as_str());
    let foreign = [("cookie", cookie.as_str()), ("origin", "https://elsewhere.example")];
    for (method, target, headers) in [
        ("GET", STREAM_PATH, &[authorization][..]),
        ("OPTIONS", STREAM_PATH, &[]),
        ("POST", STREAM_PATH, &[authorization]),
        ("GET", STREAM_PATH, &[]),
        ("GET", STREAM_PATH, &[("authorization", "Bearer x")]),
        ("GET", &two, &[authorization]),
        ("GET", &no_query, &[authorization]),
        ("GET", STREAM_PATH, &foreign),
        ("GET", STREAM_PATH, &[authorization, ("x-long", &long)]),
        ("GET", "/elsewhere", &[]),
    ] {
        answers.ask(&gateway, method, target, headers).await;
    }
    let mut socket = TcpStream::connect(gateway.address).await.unwrap();
    let head = format!("GET {STREAM_PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: x\r\n\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    answers.take_raw(&mut socket).await;

    let off = ["--enable-sse-notifications", "false"];
    let gateway = TestGateway::start(&database.url, &off).await;
    answers.ask(&gateway, "GET", STREAM_PATH, &[]).await;
    // Those of a gateway that is full or starting are in the test of refusals. A head that is too
    // slow takes ten seconds; a gateway that stops takes no new connection for long.
    let kinds = [
        "bad-query",
        "bad-request",
        "foreign-origin",
        "head-too-large",
        "method-not-allowed",
        "not-found",
        "token-invalid",
        "token-missing",
        "two-tokens",
    ];
    assert!(answers.kinds.iter().eq(kinds), "{:?}", answers.kinds);
}

#[tokio::test]
async fn every_answer_of_the_admin_port_is_as_openapi_yaml_says() {
    let api = OpenApi::read();
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &[]).await;
    let unready = TestGateway::start_unready("postgres://nobody@127.0.0.1:1/nothing", &[]).await;
    for (gateway, target, status) in [
        (&gateway, "/healthz", "200"),
        (&gateway, "/readyz", "200"),
        (&gateway, "/readyz?strict", "200"),
        (&gateway, "/metrics", "200"),
        (&unready, "/readyz", "503"),
        (&unready, "/readyz?strict", "503"),
    ] {
        let response = request(gateway.admin, "GET", target, &[]).await;
        assert_eq!(response.status.to_string(), status, "{target}");
        let path = target.split('?').next().unwrap();
        let content = api.at(&["paths", path, "get", "responses", status, "content"]);
        let media_type = response.header("content-type").split(';').next().unwrap().to_owned();
        let schema = &content.get(&media_type).expect("the media type")["schema"];
        let body = response.text().await;
        let value = if media_type == "application/json" {
            serde_json::from_str(&body).unwrap()
        } else {
            Value::from(body)
        };
        assert_eq!(api.check(schema, &value), Ok(()), "{target}");
    }
}

#[test]
fn every_problem_and_every_reason_of_the_code_is_in_the_docs_and_no_other_is() {
    let api = OpenApi::read();
    let mut types = BTreeSet::new();
    for (status, response) in
        api.at(&["paths", STREAM_PATH, "get", "responses"]).as_object().unwrap()
    {
        for problem in problems(&api, response) {
            assert_eq!(problem["status"].to_string(), *status);
            types.insert(problem["type"].as_str().unwrap().to_owned());
        }
    }
    let kinds: BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.page().to_owned()).collect();
    assert_eq!(types, kinds);
    let sections = PROBLEMS_PAGE.lines().filter_map(|line| line.strip_prefix("## "));
    let pages = kinds.iter().map(|page| page.rsplit('#').next().unwrap());
    assert_eq!(sections.collect::<BTreeSet<_>>(), pages.collect());

    let reasons = |schema: &str| {
        let reasons = api.schema(schema)["properties"]["reason"]["enum"].as_array().unwrap();
        reasons.iter().map(|reason| reason.as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    assert_eq!(reasons("Resync"), resyncs());
    assert_eq!(reasons("Closing"), &closings() | &refusals());
    assert_eq!(listed("## `resync`"), resyncs());
    assert_eq!(listed("## `closing`"), closings());
    assert_eq!(listed("## `closing` as a refusal"), refusals());
    let errors = listed("## Errors");
    let codes = kinds.iter().map(|page| page.rsplit('#').next().unwrap().to_owned());
    assert_eq!(errors, codes.collect());
    let events = STREAM_PAGE.lines().filter_map(|line| line.strip_prefix("## `"));
    let events: BTreeSet<_> = events.map(|rest| rest.split('`').next().unwrap()).collect();
    let branches = api.schema("StreamEvent")["oneOf"].as_array().unwrap().iter();
    let names: BTreeSet<_> = branches
        .filter_map(|branch| api.resolve(branch)["properties"]["event"]["const"].as_str())
        .collect();
    assert_eq!(events, names);
}

/// What stands in backquotes in the first column of the tables under a heading of docs/stream.md.
fn listed(heading: &str) -> BTreeSet<String> {
    let after = STREAM_PAGE.split_once(&format!("\n{heading}\n")).expect(heading).1;
    let section = after.split("\n## ").next().unwrap();
    let cells = section.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    cells.filter_map(|cell| cell.split('`').nth(1)).map(ToOwned::to_owned).collect()
}

/// The answers that are not a stream, each compared with docs/openapi.yaml.
struct Answers {
    api: OpenApi,
    /// What is behind the `#` of each `type`.
    kinds: BTreeSet<String>,
}

impl Answers {
    fn new() -> Self {
        Self { api: OpenApi::read(), kinds: BTreeSet::new() }
    }

    async fn ask(
        &mut self,
        gateway: &TestGateway,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
    ) {
        let answer = request(gateway.address, method, target, headers).await;
        // Of other methods the file says the answer where it says that of GET.
        let operation = if method == "OPTIONS" { "options" } else { "get" };
        let status = answer.status.to_string();
        let described = self.api.at(&["paths", STREAM_PATH, operation, "responses", &status]);
        for (name, header) in
            described.get("headers").and_then(Value::as_object).into_iter().flatten()
        {
            let header = self.api.resolve(header);
            let value = answer.header(name);
            let value = value.parse::<u64>().map_or(Value::from(value), Value::from);
            assert_eq!(self.api.check(&header["schema"], &value), Ok(()), "{name} of a {status}");
            assert!(answer.headers.contains_key(name), "no {name} in a {status}");
        }
        let media_type = answer.header("content-type").to_owned();
        let Some(content) = described.get("content") else {
            assert_eq!(media_type, "", "{status}");
            return;
        };
        assert!(content.get(&media_type).is_some(), "{media_type} in a {status}");
        if media_type == "application/problem+json" {
            let problem = serde_json::from_str(&answer.text().await).unwrap();
            self.take(&status, &problem);
        }
    }

    /// The answer to bytes that no HTTP client would send.
    async fn take_raw(&mut self, socket: &mut TcpStream) {
        let mut answer = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(socket, &mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap();
        self.take(status, &serde_json::from_str(body).unwrap());
    }

    fn take(&mut self, status: &str, problem: &Value) {
        let schema = self.api.schema("Problem");
        assert_eq!(self.api.check(schema, problem), Ok(()));
        assert!(problem.as_object().unwrap().len() == 4, "{problem}");
        let described = self.api.at(&["paths", STREAM_PATH, "get", "responses", status]);
        let same = |name: &str, example: &Value| example[name] == problem[name];
        let is_described = problems(&self.api, described)
            .iter()
            .any(|example| ["type", "title", "status"].iter().all(|name| same(name, example)));
        assert!(is_described, "docs/openapi.yaml does not have {problem} under {status}");
        let kind = problem["type"].as_str().unwrap().rsplit('#').next().unwrap();
        self.kinds.insert(kind.to_owned());
    }
}

/// The examples of the problems of a response.
fn problems<'a>(api: &'a OpenApi, response: &'a Value) -> Vec<&'a Value> {
    let content = &api.resolve(response)["content"]["application/problem+json"];
    let examples = content["examples"].as_object().into_iter().flatten();
    examples.map(|(_, example)| &example["value"]).collect()
}

fn set(reasons: impl IntoIterator<Item = &'static str>) -> BTreeSet<String> {
    reasons.into_iter().map(ToOwned::to_owned).collect()
}

fn resyncs() -> BTreeSet<String> {
    use Resync::{Foreign, Future, Malformed, TooFarBack};
    let reason = |resync| match resync {
        // One more does not compile here: it belongs into the list below as well.
        Malformed | Foreign | Future | TooFarBack => Resync::reason(resync),
    };
    set([Malformed, Foreign, Future, TooFarBack].map(reason))
}

/// The reasons that reach a client. The other two cannot be sent: the socket takes
/// nothing, or is gone.
fn closings() -> BTreeSet<String> {
    let is_told =
        |end: &StreamEnd| !matches!(end, StreamEnd::SlowConsumer | StreamEnd::Disconnected);
    set(StreamEnd::ALL.into_iter().filter(is_told).map(StreamEnd::reason))
}

fn refusals() -> BTreeSet<String> {
    set(Refusal::REASONS.map(Refusal::reason))
}

fn encoded(epoch: u32, snapshot: &str) -> String {
    let mut text = Vec::new();
    let snapshot: Snapshot = snapshot.parse().unwrap();
    assert!(Cursor::new(epoch, snapshot.into()).encode(&mut text));
    String::from_utf8(text).unwrap()
}

/// A cursor of an epoch that the database of `id` has not been through.
fn other_epoch(id: &str) -> String {
    encoded(Cursor::parse(id).unwrap().epoch() ^ 1, "9:9:")
}

/// A cursor of what that database has not reached.
fn future(id: &str) -> String {
    encoded(Cursor::parse(id).unwrap().epoch(), "900000000:900000000:")
}
