//! A restart, a crash, another cluster: what cursors of before are worth then.

use std::{path::Path, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use notify_gateway::{cursor::Cursor, throwaway::Postgres};
use uuid::Uuid;

use crate::support::{Database, TestGateway, crash, eventually, own_server};

const QUIET: Duration = Duration::from_millis(300);

/// No flush comes by itself while such a test lasts.
const SELDOM: [&str; 4] = ["--sweep-interval", "10s", "--heartbeat", "1s"];

async fn insert(database: &Database, user: Uuid, title: &str) {
    // By a connection of its own: the server is another every now and then.
    let sql = "INSERT INTO notifications (user_id, title, message) VALUES ($1, $2, '')";
    database.session().await.execute(sql, &[&user, &title]).await.unwrap();
}

fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(status.unwrap().success());
}

/// What a snapshot of the volume has, taken while the server is idle.
async fn keep(server: &Postgres, database: &Database) -> std::path::PathBuf {
    database.psql("CHECKPOINT").await;
    let kept = server.data_directory().with_file_name("kept");
    copy(&server.data_directory(), &kept);
    std::fs::remove_file(kept.join("postmaster.pid")).unwrap();
    kept
}

fn put_back(server: &mut Postgres, kept: &Path) {
    crash(server);
    std::fs::remove_dir_all(server.data_directory()).unwrap();
    copy(kept, &server.data_directory());
    server.start_server().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_or_a_crash_loses_nothing_and_doubles_nothing_that_was_not_flushed_yet() {
    let mut server = own_server(&["wal_writer_delay=10s"]).await;
    let database = Database::new_on(&server).await;
    let gateway = TestGateway::start(&database.url, &SELDOM).await;
    let user = Uuid::new_v4();
    let mut stream = gateway.connect(user).await;
    let mut number = 0;
    let mut last = None;
    for (begun, how) in (1..).zip(["restart", "crash", "crash of one backend"]) {
        number += 1;
        insert(&database, user, &number.to_string()).await;
        let (titles, id) = stream.titles(1).await;
        assert_eq!(titles, [number.to_string()], "before the {how}");
        assert!(!Cursor::parse(&id).unwrap().recents().is_empty(), "it is flushed: {id}");
        match how {
            "restart" => server.stop().unwrap(),
            "crash" => crash(&mut server),
            _ => {
                let pid = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'";
                let pid = database.psql(pid).await.trim().parse().unwrap();
                kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
                eventually("the server is down", async || {
                    !database.try_psql("SELECT 1", &[]).await.status.success()
                })
                .await;
            }
        }
        if how != "crash of one backend" {
            server.start_server().unwrap();
        }
        eventually("the server is up", async || {
            database.try_psql("SELECT 1", &[]).await.status.success()
        })
        .await;
        number += 1;
        insert(&database, user, &number.to_string()).await;
        assert_eq!(stream.titles(1).await.0, [number.to_string()], "after the {how}");
        let epochs = "SELECT count(*) FROM notify_gateway.epoch";
        eventually("the epoch begins", async || {
            database.psql(epochs).await.trim() == (begun + 1).to_string()
        })
        .await;
        // One that was away meanwhile.
        let mut resumed = gateway.resume(user, &id).await;
        assert_eq!(resumed.titles(1).await.0, [number.to_string()], "resumed after the {how}");
        assert!(resumed.is_quiet_for(QUIET).await, "after the {how}");
        last = Some(id);
    }
    // Through all of the epochs.
    let mut resumed = gateway.resume(user, &last.unwrap()).await;
    assert_eq!(resumed.titles(1).await.0, ["6"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_set_back_to_a_copy_of_itself_loses_nothing_that_is_written_after() {
    let mut server = own_server(&["fsync=off"]).await;
    let database = Database::new_on(&server).await;
    let flags = ["--heartbeat", "100ms", "--sweep-interval", "100ms"];
    let gateway = TestGateway::start(&database.url, &flags).await;
    let user = Uuid::new_v4();
    let mut stream = gateway.connect(user).await;
    let mut gateway = Some(gateway);
    insert(&database, user, "before").await;
    assert_eq!(stream.titles(1).await.0, ["before"]);
    for is_gateway_away in [false, true] {
        // The watermark has seen all by then.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let kept = keep(&server, &database).await;
        for n in 0..50 {
            insert(&database, user, &format!("undone {n}")).await;
        }
        let (_, id) = stream.titles(50).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        if is_gateway_away {
            let gateway = gateway.take().unwrap();
            gateway.stop();
            gateway.ended().await.unwrap();
        }
        put_back(&mut server, &kept);
        // More than was undone: the numbers say nothing of it any more.
        let titles: Vec<String> = (0..120).map(|n| format!("after {n}")).collect();
        for title in &titles {
            insert(&database, user, title).await;
        }
        if let Some(gateway) = &gateway {
            gateway.ready().await;
            assert_eq!(stream.titles(120).await.0, titles);
        }
        let started = match gateway.take() {
            Some(gateway) => gateway,
            None => TestGateway::start(&database.url, &flags).await,
        };
        stream = started.resume(user, &id).await;
        assert_eq!(stream.titles(120).await.0, titles, "gateway away: {is_gateway_away}");
        insert(&database, user, "live").await;
        assert_eq!(stream.titles(1).await.0, ["live"]);
        gateway = Some(started);
        std::fs::remove_dir_all(kept).unwrap();
    }

    // Of an epoch that the copy has not been through.
    let kept = keep(&server, &database).await;
    server.stop().unwrap();
    server.start_server().unwrap();
    let gateway = gateway.unwrap();
    gateway.ready().await;
    insert(&database, user, "of a lost epoch").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let id = gateway.cursor(user).await;
    put_back(&mut server, &kept);
    gateway.ready().await;
    let mut stream = gateway.resume(user, &id).await;
    let resync = stream.next_but_heartbeat().await;
    assert_eq!(
        (resync.name.as_str(), &resync.json()["reason"]),
        ("resync", &"foreign_cursor".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_refuses_wal_functions_is_gone_on_with() {
    let mut server = own_server(&["fsync=off"]).await;
    let database = Database::new_on(&server).await;
    for function in ["pg_control_system()", "pg_walfile_name(pg_lsn)", "pg_last_wal_replay_lsn()"] {
        database.psql(&format!("REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC")).await;
    }
    let gateway = TestGateway::start(&database.url, &SELDOM).await;
    let user = Uuid::new_v4();
    let mut stream = gateway.connect(user).await;
    insert(&database, user, "one").await;
    let (_, id) = stream.titles(1).await;
    server.stop().unwrap();
    server.start_server().unwrap();
    gateway.ready().await;
    insert(&database, user, "two").await;
    // What was not flushed comes once more: it may have been a failover. On a busy machine a sweep
    // may have flushed it.
    let mut resumed = gateway.resume(user, &id).await;
    let mut titles = resumed.titles(1).await.0;
    if titles == ["one"] {
        titles = resumed.titles(1).await.0;
    }
    assert_eq!(titles, ["two"]);
    assert_eq!(
        database.psql("SELECT count(*), count(timeline) FROM notify_gateway.epoch").await.trim(),
        "2|0"
    );
}

/// Aurora does so while `wal_level` is not `logical`, which is its default.
#[tokio::test]
async fn a_service_whose_wal_functions_ask_for_another_setting_is_gone_on_with() {
    let database = Database::new().await;
    database
        .psql(
            "SET allow_system_table_mods = on;
             ALTER FUNCTION pg_catalog.pg_current_wal_lsn() RENAME TO pg_current_wal_lsn_of_before;
             CREATE FUNCTION pg_catalog.pg_current_wal_lsn() RETURNS pg_lsn LANGUAGE plpgsql AS $$
             BEGIN
               RAISE EXCEPTION 'wal_level must be set to \"logical\"'
                 USING ERRCODE = 'object_not_in_prerequisite_state';
             END $$",
        )
        .await;
    let gateway = TestGateway::start(&database.url, &SELDOM).await;
    let user = Uuid::new_v4();
    let mut stream = gateway.connect(user).await;
    insert(&database, user, "one").await;
    assert_eq!(stream.titles(1).await.0, ["one"]);
    assert_eq!(
        database.psql("SELECT count(*), count(timeline) FROM notify_gateway.epoch").await.trim(),
        "1|0"
    );
}

#[tokio::test]
async fn a_copy_of_the_epochs_in_another_database_is_not_taken_for_this_one() {
    let (from, to) = (Database::new().await, Database::new().await);
    let gateway = TestGateway::start(&from.url, &[]).await;
    let user = Uuid::new_v4();
    let id = gateway.cursor(user).await;
    drop(gateway);
    // What logical replication of ALL TABLES brings along.
    for table in ["state", "epoch"] {
        let rows = from.psql(&format!("SELECT json_agg(t) FROM notify_gateway.{table} t")).await;
        to.psql(&format!(
            "DELETE FROM notify_gateway.{table};
             INSERT INTO notify_gateway.{table} OVERRIDING SYSTEM VALUE
             SELECT * FROM json_populate_recordset(NULL::notify_gateway.{table}, '{}')",
            rows.trim()
        ))
        .await;
    }
    // Of another server, that is: the number of its life is another.
    to.psql("UPDATE notify_gateway.epoch SET epoch = epoch # 1").await;
    let id = {
        let mut text = Vec::new();
        let cursor = Cursor::parse(&id).unwrap();
        let other = Cursor::new(cursor.epoch() ^ 1, std::sync::Arc::clone(cursor.snapshot()));
        assert!(other.encode(&mut text));
        String::from_utf8(text).unwrap()
    };
    let gateway = TestGateway::start(&to.url, &[]).await;
    let mut stream = gateway.resume(user, &id).await;
    let resync = stream.next_but_heartbeat().await;
    assert_eq!(
        (resync.name.as_str(), &resync.json()["reason"]),
        ("resync", &"foreign_cursor".into())
    );
}

#[tokio::test]
async fn an_epoch_that_cannot_begin_begins_when_it_can() {
    let database = Database::new().await;
    let mut session = database.session().await;
    let lock = session.transaction().await.unwrap();
    lock.batch_execute("SELECT 1 FROM notify_gateway.state FOR UPDATE").await.unwrap();
    let gateway = TestGateway::start_unready(&database.url, &["--sweep-interval", "100ms"]).await;
    // Longer than the gateway's lock_timeout: the first attempt fails.
    tokio::time::sleep(Duration::from_millis(5500)).await;
    assert_eq!(gateway.readyz().await.0, 503);
    lock.rollback().await.unwrap();
    gateway.ready().await;
}
