//! A small run against a real gateway on a real Postgres.

#![allow(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it; clippy.toml covers test functions only"
)]

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
    sync::OnceLock,
};

use clap::Parser as _;
use notify_gateway::{
    config::Settings, gateway::Gateway, http::STREAM_PATH, schema, throwaway::Postgres,
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

const SECRET: &str = "the secret of the load test's tests, for HS256";

#[derive(clap::Parser)]
struct Serve {
    #[command(flatten)]
    settings: Settings,
}

/// A gateway in this process, for both tests. It is never dropped; the server
/// under it notices by itself when the process is gone.
struct Deployment {
    database_url: String,
    url: String,
    _postgres: Postgres,
    _runtime: tokio::runtime::Runtime,
}

fn deployment() -> &'static Deployment {
    static DEPLOYMENT: OnceLock<Deployment> = OnceLock::new();
    DEPLOYMENT.get_or_init(|| {
        let postgres = Postgres::start(&["fsync=off"]).unwrap();
        let database_url = postgres.url("postgres");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let url = runtime.block_on(serve(&database_url));
        Deployment { database_url, url, _postgres: postgres, _runtime: runtime }
    })
}

async fn serve(database_url: &str) -> String {
    let (client, connection) =
        tokio_postgres::connect(database_url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let schema = schema::sql("notifications");
    client.batch_execute(&schema).await.unwrap();
    let flags = [
        ["--database-url", database_url],
        ["--jwt-secret", SECRET],
        ["--bind", "127.0.0.1:0"],
        ["--admin-bind", "127.0.0.1:0"],
        ["--connect-rate", "0"],
        ["--user-connect-rate", "0"],
    ];
    let flags = ["gateway"].into_iter().chain(flags.into_iter().flatten());
    let config = Serve::try_parse_from(flags).unwrap().settings.into_config().unwrap();
    let gateway = Gateway::bind(config).unwrap();
    let url = format!("http://{}{STREAM_PATH}", gateway.local_addr().unwrap());
    let health = gateway.health();
    tokio::spawn(gateway.run(CancellationToken::new()));
    health.ready().await;
    url
}

/// Times are not judged: this machine may be busy with anything.
fn loadtest(arguments: &[&str], json: &Path) -> Output {
    let deployment = deployment();
    let output = Command::new(env!("CARGO_BIN_EXE_notify-loadtest"))
        .args(arguments)
        .args(["--no-limits", "--settle", "60s", "--url", &deployment.url])
        .args(["--database-url", &deployment.database_url, "--jwt-secret", SECRET])
        .arg("--json")
        .arg(json)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    std::io::stdout().write_all(&said).unwrap();
    output
}

fn result(json: &Path) -> Value {
    let report: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    report["results"][0].clone()
}

#[test]
fn rows_at_a_rate_all_arrive_once_and_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let (json, html) = (directory.path().join("steady.json"), directory.path().join("steady.html"));
    let arguments = [
        "steady",
        "-n",
        "60",
        "--streams-per-user",
        "2",
        "--rate",
        "200",
        "--duration",
        "1s",
        "--rows-per-transaction",
        "4",
        "--rows-per-user",
        "2",
        "--workers",
        "2",
        "--html",
        html.to_str().unwrap(),
    ];
    let output = loadtest(&arguments, &json);
    assert!(output.status.success());
    let result = result(&json);
    let findings = &result["findings"];
    assert_eq!(result["streams"], 60);
    assert_eq!(result["rows"], 200);
    assert_eq!((&findings["expected"], &findings["delivered"]), (&400.into(), &400.into()));
    assert_eq!(result["latencies"]["intended"]["count"], 400);
    assert!(std::fs::read_to_string(html).unwrap().contains("<polyline"));

    let compare = Command::new(env!("CARGO_BIN_EXE_notify-loadtest"))
        .arg("compare")
        .args([&json, &json])
        .output()
        .unwrap();
    assert!(compare.status.success());
    assert!(String::from_utf8_lossy(&compare.stdout).contains("sent → received p99, ms"));
}

#[test]
fn nothing_is_lost_when_all_streams_are_cut_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("storm.json");
    let arguments = ["storm", "-n", "50", "--rate", "200", "--duration", "2s", "--storms", "2"];
    let output = loadtest(&arguments, &json);
    assert!(output.status.success());
    let result = result(&json);
    assert_eq!(result["findings"]["expected"], 400);
    assert_eq!(result["latencies"]["reconnect"]["count"], 100);
    assert_eq!(result["latencies"]["catch_up"]["count"], 100);
}
