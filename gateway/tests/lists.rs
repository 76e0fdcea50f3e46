//! `notify_gateway.cursor()`: list and stream fit without a gap and without an overlap.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio_postgres::{Client, IsolationLevel};
use uuid::Uuid;

use crate::support::{Database, TestGateway, crash, eventually, own_server};

const INSERT: &str = "INSERT INTO notifications (user_id, title, message) VALUES ($1, $2, '')";

/// More of them are a matter of `LISTS=10000`.
fn rounds(name: &str, few: usize) -> usize {
    std::env::var(name).map_or(few, |count| count.parse().unwrap())
}

/// What a page loads: the titles, and where the stream is to begin.
async fn page(client: &mut Client, user: Uuid, in_one_statement: bool) -> (Vec<String>, String) {
    const TITLES: &str = "SELECT title FROM notifications WHERE user_id = $1";
    if in_one_statement {
        let both = format!("SELECT ARRAY({TITLES}), notify_gateway.cursor()");
        let row = client.query_one(&both, &[&user]).await.unwrap();
        return (row.get(0), row.get(1));
    }
    let read = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead);
    let read = read.read_only(fastrand::bool()).start().await.unwrap();
    let is_cursor_first = fastrand::bool();
    let cursor = async || -> String {
        read.query_one("SELECT notify_gateway.cursor()", &[]).await.unwrap().get(0)
    };
    let early = if is_cursor_first { Some(cursor().await) } else { None };
    let titles = read.query(TITLES, &[&user]).await.unwrap();
    let id = match early {
        Some(early) => early,
        None => cursor().await,
    };
    read.commit().await.unwrap();
    (titles.iter().map(|row| row.get(0)).collect(), id)
}

/// Writes rows of `user`, in transactions of every kind, until it is told to stop.
async fn write(mut client: Client, user: Uuid, name: usize, stop: Arc<AtomicBool>) {
    let mut number = 0;
    let mut title = || {
        number += 1;
        format!("{name}-{number}")
    };
    while !stop.load(Ordering::Relaxed) {
        let transaction = client.transaction().await.unwrap();
        for _ in 0..fastrand::usize(1..=3) {
            transaction.execute(INSERT, &[&user, &title()]).await.unwrap();
            if fastrand::u8(0..4) == 0 {
                tokio::time::sleep(Duration::from_millis(fastrand::u64(0..20))).await;
            }
            if fastrand::u8(0..4) == 0 {
                transaction.batch_execute("SAVEPOINT s").await.unwrap();
                transaction.execute(INSERT, &[&user, &title()]).await.unwrap();
                transaction.batch_execute("ROLLBACK TO s").await.unwrap();
            }
        }
        let ended = match fastrand::u8(0..10) {
            0 => transaction.rollback().await,
            _ => transaction.commit().await,
        };
        ended.unwrap();
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..10))).await;
    }
}

/// Counts what has come, from the list or from the stream, until the row `end` has.
async fn count(
    gateway: &TestGateway,
    user: Uuid,
    list: Vec<String>,
    id: &str,
    end: &str,
) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for title in list {
        *counts.entry(title).or_default() += 1;
    }
    let mut stream = gateway.resume(user, id).await;
    while !counts.contains_key(end) {
        let event = stream.next_but_heartbeat().await;
        assert_eq!(event.name, "notification", "{event:?} after {id}");
        *counts.entry(event.title()).or_default() += 1;
    }
    counts
}

async fn table(database: &Database, user: Uuid) -> BTreeMap<String, usize> {
    let sql = "SELECT title FROM notifications WHERE user_id = $1";
    let rows = database.client.query(sql, &[&user]).await.unwrap();
    rows.iter().map(|row| (row.get(0), 1)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn list_and_stream_have_every_row_exactly_once() {
    const PAGES_AT_ONCE: usize = 25;
    let database = Database::new().await;
    database.psql("CREATE INDEX ON notifications (user_id)").await;
    let gateway = Arc::new(
        TestGateway::start(
            &database.url,
            &["--max-streams-per-user", "1000", "--connect-rate", "0", "--user-connect-rate", "0"],
        )
        .await,
    );
    for _ in 0..rounds("LISTS", 200).div_ceil(PAGES_AT_ONCE) {
        let user = Uuid::new_v4();
        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = Vec::new();
        for name in 0..4 {
            let client = database.session().await;
            writers.push(tokio::spawn(write(client, user, name, Arc::clone(&stop))));
        }
        let mut pages = Vec::new();
        for _ in 0..PAGES_AT_ONCE {
            let mut client = database.session().await;
            let gateway = Arc::clone(&gateway);
            pages.push(tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(fastrand::u64(0..600))).await;
                let (list, id) = page(&mut client, user, fastrand::bool()).await;
                drop(client);
                tokio::time::sleep(Duration::from_millis(fastrand::u64(0..400))).await;
                count(&gateway, user, list, &id, "end").await
            }));
        }
        tokio::time::sleep(Duration::from_millis(700)).await;
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.await.unwrap();
        }
        // A sentinel, and what has come before it is all.
        tokio::time::sleep(Duration::from_millis(500)).await;
        database.insert(user, "end").await;
        let table = table(&database, user).await;
        for page in pages {
            assert_eq!(page.await.unwrap(), table);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn they_do_through_a_crash_that_gives_transaction_numbers_out_again() {
    let mut server = own_server(&["wal_writer_delay=10s"]).await;
    let database = Database::new_on(&server).await;
    let gateway =
        TestGateway::start(&database.url, &["--connect-rate", "0", "--user-connect-rate", "0"])
            .await;
    let (few, mut reused, mut round) = (rounds("CRASHES", 4), 0, 0);
    // A sweep may have flushed the numbers of each of a few rounds.
    while round < few || reused == 0 && round < 10 * few {
        round += 1;
        let user = Uuid::new_v4();
        let mut client = database.session().await;
        let pid = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'";
        let pid = client.query_one(pid, &[]).await.unwrap().get(0);
        // What nobody flushes is lost.
        kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
        let mut titles = Vec::new();
        for number in 0..fastrand::usize(1..20) {
            let title = format!("before {number}");
            client.execute(INSERT, &[&user, &title]).await.unwrap();
            titles.push(title);
            if fastrand::u8(0..4) == 0 {
                tokio::time::sleep(Duration::from_millis(fastrand::u64(0..500))).await;
            }
        }
        // Numbers that only a snapshot knows of.
        for _ in 0..fastrand::usize(0..20) {
            client.batch_execute("BEGIN; SELECT pg_current_xact_id(); ROLLBACK").await.unwrap();
        }
        let (list, id) = page(&mut client, user, fastrand::bool()).await;
        let known: i64 = next_xact(&client).await;
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..100))).await;
        let connected = if fastrand::bool() { Some(gateway.resume(user, &id).await) } else { None };
        crash(&mut server);
        server.start_server().unwrap();
        eventually("the server is up", async || {
            database.try_psql("SELECT 1", &[]).await.status.success()
        })
        .await;
        let client = database.session().await;
        reused += usize::from(next_xact(&client).await < known);
        for number in 0..30 {
            let title = format!("after {number}");
            client.execute(INSERT, &[&user, &title]).await.unwrap();
            titles.push(title);
        }
        if let Some(mut stream) = connected {
            let (streamed, _) = stream.titles(30).await;
            assert_eq!([list.clone(), streamed].concat(), titles, "round {round}, {id}");
        }
        let counts = count(&gateway, user, list, &id, "after 29").await;
        let all = titles.into_iter().map(|title| (title, 1)).collect();
        assert_eq!(counts, all, "round {round}, {id}");
    }
    assert!(reused > 0, "no number was given out again: nothing was tested");
}

async fn next_xact(client: &Client) -> i64 {
    let sql = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint";
    client.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn one_that_is_read_in_a_writing_transaction_has_that_transactions_rows_so_far() {
    let mut database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &[]).await;
    let user = Uuid::new_v4();
    let mut client = database.session().await;
    let transaction = client.transaction().await.unwrap();
    for title in ["one", "two"] {
        transaction.execute(INSERT, &[&user, &title]).await.unwrap();
    }
    let id: String =
        transaction.query_one("SELECT notify_gateway.cursor()", &[]).await.unwrap().get(0);
    transaction.execute(INSERT, &[&user, &"three"]).await.unwrap();
    // A later transaction that is over before this one.
    database.insert(user, "beside").await;
    transaction.commit().await.unwrap();
    let mut stream = gateway.resume(user, &id).await;
    let mut titles = stream.titles(2).await.0;
    titles.sort();
    assert_eq!(titles, ["beside", "three"]);
    assert!(stream.is_quiet_for(Duration::from_millis(300)).await);
    // Nothing is written: of what others have open, nothing is claimed.
    let other = database.client.transaction().await.unwrap();
    other.execute(INSERT, &[&user, &"late"]).await.unwrap();
    let (_, id) = page(&mut client, user, true).await;
    other.commit().await.unwrap();
    let mut stream = gateway.resume(user, &id).await;
    assert_eq!(stream.titles(1).await.0, ["late"]);
}

#[tokio::test]
async fn the_applications_role_reads_it_with_usage_on_the_schema_and_learns_nothing_else() {
    let database = Database::new().await;
    let role = format!("app_{}", Uuid::new_v4().simple());
    database
        .psql(&format!("CREATE ROLE {role}; GRANT USAGE ON SCHEMA notify_gateway TO {role};"))
        .await;
    let asked = database.psql(&format!("SET ROLE {role}; SELECT notify_gateway.cursor()")).await;
    assert!(notify_gateway::cursor::Cursor::parse(asked.trim()).is_ok(), "{asked}");
    let refused = database
        .try_psql(&format!("SET ROLE {role}; SELECT count(*) FROM notify_gateway.event"), &[])
        .await;
    assert!(!refused.status.success());
    database.psql(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn beside_many_writers_it_stays_within_its_bound() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &[]).await;
    let user = Uuid::new_v4();
    let mut holes = Vec::new();
    for number in 0..150 {
        let client = database.session().await;
        client.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.unwrap();
        holes.push(client);
        // Far apart, so that distances are long.
        for _ in 0..if number < 100 { 12 } else { 1 } {
            database.client.batch_execute("SELECT pg_current_xact_id()").await.unwrap();
        }
    }
    // More transactions than are claimed singly.
    for number in 0..130 {
        database.insert(user, &number.to_string()).await;
        if number == 0 {
            let text = database.psql("SELECT notify_gateway.cursor()").await;
            assert!(text.trim().len() <= notify_gateway::cursor::MAX_LEN, "{text}");
        }
    }
    let id = database.psql("SELECT notify_gateway.cursor()").await;
    assert!(id.trim().len() <= notify_gateway::cursor::MAX_LEN, "{id}");
    database.insert(user, "end").await;
    let mut stream = gateway.resume(user, id.trim()).await;
    // Of so many, some may come again; none is missing.
    loop {
        if stream.titles(1).await.0 == ["end"] {
            break;
        }
    }
}
