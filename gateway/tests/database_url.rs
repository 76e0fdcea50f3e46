//! The database URL as an application has it: with parameters of its driver,
//! with a pooler in the way.

use nix::sys::signal::Signal;
use uuid::Uuid;

use crate::support::{Database, EventSource, Process, eventually};

#[tokio::test]
async fn what_another_driver_is_told_is_one_warning_and_no_value_is_in_the_log() {
    let database = Database::new().await;
    let url = format!("{}?pgbouncer=hunter2&schema=hunter2&connection_limit=5", database.url);
    let process = Process::start(&url, &[]).await;
    let log = process.log();
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("pgbouncer")).collect();
    assert_eq!(warnings.len(), 1, "{log}");
    assert!(warnings[0].contains("connection_limit, pgbouncer, schema"), "{log}");
    assert!(!log.contains("hunter2"), "{log}");
}

#[tokio::test]
async fn the_connection_that_listens_has_a_url_of_its_own_and_sighup_reads_it_again() {
    let database = Database::new().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("listen-url");
    let write = |name: &str| {
        std::fs::write(&file, format!("{}?application_name={name}\n", database.url)).unwrap();
    };
    let sessions = async |name: &str, listens: bool| {
        let comparison = if listens { "LIKE" } else { "NOT LIKE" };
        let sql = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
             AND application_name = '{name}' AND query {comparison} '%LISTEN%'"
        );
        database.psql(&sql).await.trim().parse::<u32>().unwrap()
    };
    write("direct");
    let flags = ["--listen-database-url-file", file.to_str().unwrap()];
    let process = Process::start(&database.url, &flags).await;
    assert_eq!(sessions("direct", true).await, 1);
    assert!(sessions("notify-gateway", false).await > 0);
    assert_eq!(sessions("notify-gateway", true).await, 0);

    write("renewed");
    process.signal(Signal::SIGHUP);
    eventually("it was read", async || process.log().contains("SIGHUP")).await;
    eventually("the next session goes where the file says", async || {
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE datname = current_database() AND application_name = 'direct'";
        database.psql(end).await;
        sessions("renewed", true).await == 1
    })
    .await;
    let user = Uuid::new_v4();
    let mut stream = EventSource::open(process.address, user).await;
    assert_eq!(stream.next().await.name, "connected");
    database.insert(user, "direct").await;
    assert_eq!(stream.titles(1).await.0, ["direct"]);
}
