//! Rows that no notification brings arrive all the same.

use std::time::Duration;

use uuid::Uuid;

use crate::support::{Database, TestGateway, eventually};

const SWEEP: [&str; 2] = ["--sweep-interval", "100ms"];

/// Has the story's table ring so.
fn ring(how: &str) -> String {
    format!(
        "SELECT notify_gateway.watch('notifications', w.user_id, w.row_id, w.event, w.data, \
                                     w.condition, '{how}') FROM notify_gateway.watch_entry w"
    )
}

#[tokio::test]
async fn what_rings_never_is_found_by_the_sweep() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &SWEEP).await;
    let user = Uuid::new_v4();
    let mut stream = gateway.connect(user).await;
    database.psql(&ring("never")).await;
    database
        .psql(&format!(
            "INSERT INTO notifications (user_id, title, message)
             SELECT '{user}', 'silent ' || n, 'm' FROM generate_series(1, 3) n"
        ))
        .await;
    assert_eq!(stream.titles(3).await.0, ["silent 1", "silent 2", "silent 3"]);
    assert!(gateway.metric("notify_gateway_sweep_rows_total").await > 2.5);
    assert!(stream.is_quiet_for(Duration::from_millis(300)).await);
}

#[tokio::test]
async fn what_is_written_while_the_trigger_is_disabled_is_told_to_nobody_which_is_a_way_to_backfill()
 {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &SWEEP).await;
    let user = Uuid::new_v4();
    let mut stream = gateway.connect(user).await;
    let table = "ALTER TABLE notifications";
    database.psql(&format!("{table} DISABLE TRIGGER \"00_notify_gateway\"")).await;
    database.insert(user, "backfilled").await;
    let state = "SELECT trigger FROM notify_gateway.watched";
    assert_eq!(database.psql(state).await.trim(), "disabled");
    database.psql(&format!("{table} ENABLE ALWAYS TRIGGER \"00_notify_gateway\"")).await;
    database.insert(user, "told").await;
    assert_eq!(stream.titles(1).await.0, ["told"]);
}

#[tokio::test]
async fn a_writer_in_replica_role_rings_as_well() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &SWEEP).await;
    let user = Uuid::new_v4();
    let mut stream = gateway.connect(user).await;
    database
        .psql(&format!(
            "SET session_replication_role = replica;
             INSERT INTO notifications (user_id, title, message) VALUES ('{user}', 'replica', 'm')"
        ))
        .await;
    assert_eq!(stream.titles(1).await.0, ["replica"]);
}

#[tokio::test]
async fn in_ring_mode_the_channel_carries_no_row_and_the_stream_all_of_them() {
    let database = Database::new().await;
    database.psql(&ring("ring")).await;
    // A sweep an hour: what comes, comes because it rang.
    let gateway = TestGateway::start(&database.url, &["--sweep-interval", "1h"]).await;
    let user = Uuid::new_v4();
    let mut stream = gateway.connect(user).await;
    for n in 0..5 {
        let title = format!("ring {n}");
        database.insert(user, &title).await;
        assert_eq!(stream.titles(1).await.0, [title]);
    }
}

#[tokio::test]
async fn rows_of_any_size_arrive_in_the_order_of_their_transaction_with_the_same_bytes() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &SWEEP).await;
    let user = Uuid::new_v4();
    let mut stream = gateway.connect(user).await;
    let before = gateway.cursor(user).await;
    // What the payload adds to its message, so that the whole of it is as many
    // bytes as NOTIFY just carries and just does not.
    let frame = |message: &str| {
        format!(
            "INSERT INTO notifications (user_id, title, message) VALUES ('{user}', 't', {message})"
        )
    };
    database.client.batch_execute(&format!("BEGIN; {}", frame("''"))).await.unwrap();
    let overhead = "SELECT octet_length(data) + 180 FROM notify_gateway.event";
    let overhead: i32 = database.client.query_one(overhead, &[]).await.unwrap().get(0);
    let overhead = usize::try_from(overhead).unwrap();
    database.client.batch_execute("ROLLBACK").await.unwrap();
    let mut statements = Vec::new();
    for bytes in [7999, 8000, 8001, 100, 1_000_000, 100, 7998] {
        // What stands around the data is of a size that is known about: some of each.
        for extra in 0..20 {
            statements
                .push(frame(&format!("repeat('x', {})", bytes - overhead.min(bytes) + extra)));
        }
    }
    for bytes in 1990..2000 {
        statements.push(frame(&format!("repeat('🔔', {bytes} - {overhead} / 4)")));
    }
    statements.push(frame("'the last'"));
    database
        .client
        .batch_execute(&format!("BEGIN; {}; COMMIT", statements.join(";")))
        .await
        .unwrap();

    let sql = "SELECT data::json ->> 'message' FROM notify_gateway.event ORDER BY seq";
    let rows = database.client.query(sql, &[]).await.unwrap();
    let expected: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(expected.len(), statements.len());
    let mut live = Vec::new();
    for message in &expected {
        let event = stream.next_but_heartbeat().await;
        assert!(event.json()["message"] == message.as_str(), "out of order");
        live.push(event.data);
    }
    // By replay.
    let mut replayed = gateway.resume(user, &before).await;
    for data in &live {
        assert!(&replayed.next_but_heartbeat().await.data == data, "other bytes in the replay");
    }
    // And live, where the first reader took the rows from the table: without
    // the large ones all are carried.
    assert!(stream.is_quiet_for(Duration::from_millis(200)).await);
    database.insert(user, "small").await;
    let by_notify = stream.next_but_heartbeat().await;
    let id = before;
    let mut again = gateway.resume(user, &id).await;
    let mut last = again.next_but_heartbeat().await;
    for _ in 0..expected.len() {
        last = again.next_but_heartbeat().await;
    }
    assert_eq!(last.data, by_notify.data);
}

#[tokio::test]
async fn rows_written_while_nobody_listens_arrive_once_listen_is_back() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &SWEEP).await;
    let user = Uuid::new_v4();
    let mut stream = gateway.connect(user).await;
    let mut expected = Vec::new();
    for n in 0..20 {
        if n % 5 == 0 {
            database
                .psql(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                     WHERE datname = current_database() AND query LIKE '%LISTEN%'
                       AND pid <> pg_backend_pid()",
                )
                .await;
        }
        let title = n.to_string();
        database.insert(user, &title).await;
        expected.push(title);
    }
    let mut titles = stream.titles(20).await.0;
    // Between transactions the order is that of the numbers where the sweep
    // brings them and of the commits where notifications do.
    titles.sort_by_key(|title| title.parse::<u32>().unwrap());
    assert_eq!(titles, expected);
    assert!(stream.is_quiet_for(Duration::from_millis(300)).await);
    eventually("the losses were noticed", async || {
        gateway.metric("notify_gateway_listen_reconnects_total").await > 0.5
    })
    .await;
}

/// A million of them is a matter of `BROADCAST=1000000`.
#[tokio::test]
async fn one_statement_of_very_many_rows_holds_little_memory_in_its_writer() {
    let rows = std::env::var("BROADCAST").unwrap_or_else(|_| "100000".to_owned());
    let rows: u64 = rows.parse().unwrap();
    let database = Database::new().await;
    let writer = database.session().await;
    let pid: i32 = writer.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    // What it has for itself; shared buffers are everybody's.
    let memory = || -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    };
    let before = memory();
    let broadcast = format!(
        "BEGIN; INSERT INTO notifications (user_id, title, message)
         SELECT gen_random_uuid(), 'to all', repeat('m', 500) FROM generate_series(1, {rows})"
    );
    writer.batch_execute(&broadcast).await.unwrap();
    let held = memory().saturating_sub(before);
    // By NOTIFY alone each row would be held until the commit, with its text.
    assert!(held / rows < 100, "{} bytes a row", held / rows);
    writer.batch_execute("COMMIT").await.unwrap();
    let events = "SELECT count(*) FROM notify_gateway.event";
    assert_eq!(database.psql(events).await.trim(), rows.to_string());
}
