//! Nothing lost, nothing twice: a client that comes back gets exactly what it
//! has not had.

use std::time::Duration;

use notify_gateway::{
    cursor::{Cursor, Snapshot},
    http::STREAM_PATH,
    throwaway::Postgres,
};
use uuid::Uuid;

use crate::support::{Database, EventSource, TestGateway, eventually, token};

const QUIET: Duration = Duration::from_millis(200);

fn numbered(numbers: std::ops::RangeInclusive<usize>) -> Vec<String> {
    numbers.map(|n| n.to_string()).collect()
}

/// Rows with the titles `from` to `to`, in one statement.
async fn insert_numbered(database: &Database, user: Uuid, from: usize, to: usize) {
    let insert = format!(
        "INSERT INTO notifications (user_id, title, message)
         SELECT '{user}', n, 'm' FROM generate_series({from}, {to}) n"
    );
    database.client.batch_execute(&insert).await.unwrap();
}

#[tokio::test]
async fn rows_with_nulls_in_every_nullable_column_are_replayed_whatever_their_size() {
    let database = Database::new().await;
    database
        .psql(
            "ALTER TABLE notifications
               ALTER type DROP NOT NULL, ALTER title DROP NOT NULL, ALTER message DROP NOT NULL,
               ALTER status DROP NOT NULL, ALTER metadata DROP NOT NULL,
               ALTER created_at DROP NOT NULL",
        )
        .await;
    let gateway = TestGateway::start(&database.url, &[]).await;
    let user = Uuid::new_v4();
    let cursor = gateway.cursor(user).await;
    // Every combination, some of them large, in several transactions: several pages.
    for bits in 0..64_u32 {
        let column = |bit: u32, value: &str| {
            if bits >> bit & 1 == 1 { "NULL".to_owned() } else { value.to_owned() }
        };
        let insert = format!(
            "INSERT INTO notifications
                 (user_id, related_session_id, type, title, message, status, metadata, created_at)
             SELECT '{user}', NULL, {}, {}, {}, {}, {}, {} FROM generate_series(1, 3) n",
            column(0, "'info'"),
            column(1, "'t'"),
            column(2, "repeat('m', 700 * n)"),
            column(3, "'unread'"),
            column(4, "jsonb_build_object('n', n)"),
            column(5, "now()"),
        );
        database.client.batch_execute(&insert).await.unwrap();
    }
    let mut resumed = gateway.resume(user, &cursor).await;
    let mut ids = std::collections::HashSet::new();
    for _ in 0..64 * 3 {
        let event = resumed.next().await;
        assert_eq!(event.name, "notification");
        assert!(ids.insert(event.json()["id"].as_str().unwrap().to_owned()), "came twice");
    }
    database.insert(user, "sentinel").await;
    assert_eq!(resumed.titles(1).await.0, ["sentinel"]);
}

#[tokio::test]
async fn what_was_committed_while_a_client_was_away_comes_once_and_before_what_is_live() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &[]).await;
    let user = Uuid::new_v4();
    let mut stream = gateway.connect(user).await;
    insert_numbered(&database, user, 1, 2).await;
    let (titles, id) = stream.titles(2).await;
    assert_eq!(titles, ["1", "2"]);
    drop(stream);

    insert_numbered(&database, user, 3, 4).await;
    insert_numbered(&database, Uuid::new_v4(), 100, 101).await;
    let mut stream = gateway.resume(user, &id).await;
    assert_eq!(stream.titles(2).await.0, ["3", "4"]);
    insert_numbered(&database, user, 5, 5).await;
    assert_eq!(stream.titles(1).await.0, ["5"]);
    assert!(stream.is_quiet_for(QUIET).await);
}

#[tokio::test]
async fn a_client_that_saw_nothing_but_connected_can_come_back_as_well() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &[]).await;
    let user = Uuid::new_v4();
    let id = gateway.cursor(user).await;

    insert_numbered(&database, user, 1, 1).await;

    // A new EventSource object cannot set the header: the query will do.
    let target = format!("{STREAM_PATH}?access_token={}&last_event_id={id}", token(user));
    let mut stream = EventSource::open_with(gateway.address, &target, &[]).await;
    assert_eq!(stream.next().await.name, "connected");
    assert_eq!(stream.titles(1).await.0, ["1"]);
    // The header wins; an empty one is none.
    let mut stream =
        EventSource::open_with(gateway.address, &target, &[("last-event-id", "")]).await;
    assert_eq!(stream.next().await.name, "connected");
    assert_eq!(stream.titles(1).await.0, ["1"]);
}

#[tokio::test]
async fn a_cursor_works_on_another_replica_and_after_a_restart() {
    let database = Database::new().await;
    let first = TestGateway::start(&database.url, &[]).await;
    let second = TestGateway::start(&database.url, &[]).await;
    let user = Uuid::new_v4();
    let mut stream = first.connect(user).await;
    insert_numbered(&database, user, 1, 1).await;
    let (_, id) = stream.titles(1).await;
    drop(stream);
    first.stop();
    first.ended().await.unwrap();
    insert_numbered(&database, user, 2, 2).await;

    let mut stream = second.resume(user, &id).await;
    let (titles, id) = stream.titles(1).await;
    assert_eq!(titles, ["2"]);
    insert_numbered(&database, user, 3, 3).await;
    let restarted = TestGateway::start(&database.url, &[]).await;
    let mut again = restarted.resume(user, &id).await;
    assert_eq!(again.titles(1).await.0, ["3"]);
    assert!(again.is_quiet_for(QUIET).await);
}

#[tokio::test]
async fn a_transaction_that_commits_late_is_not_passed_over() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &[]).await;
    let user = Uuid::new_v4();
    let late = database.session().await;
    let insert = format!(
        "INSERT INTO notifications (user_id, title, message) VALUES ('{user}', 'late', 'm')"
    );
    late.batch_execute(&format!("BEGIN; {insert}")).await.unwrap();
    let mut stream = gateway.connect(user).await;
    insert_numbered(&database, user, 1, 3).await;
    let (_, id) = stream.titles(3).await;
    drop(stream);

    late.batch_execute("COMMIT").await.unwrap();

    let mut stream = gateway.resume(user, &id).await;
    assert_eq!(stream.titles(1).await.0, ["late"]);
    assert!(stream.is_quiet_for(QUIET).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_may_be_cut_after_every_single_row() {
    const ROWS: usize = 130;
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &[]).await;
    let user = Uuid::new_v4();
    let mut id = gateway.cursor(user).await;
    // One transaction longer than a page, several short ones, one that is late.
    let late = database.session().await;
    let row = |title: &str| {
        format!(
            "INSERT INTO notifications (user_id, title, message) VALUES ('{user}', '{title}', 'm')"
        )
    };
    late.batch_execute(&format!("BEGIN; {}", row("late"))).await.unwrap();
    insert_numbered(&database, user, 1, 110).await;
    for n in 111..=ROWS {
        insert_numbered(&database, user, n, n).await;
    }

    let mut titles = Vec::new();
    for n in 0..ROWS {
        if n == 60 {
            late.batch_execute("COMMIT").await.unwrap();
        }
        let mut stream = gateway.resume(user, &id).await;
        let (title, next) = stream.titles(1).await;
        assert!(next.len() <= 2048);
        titles.extend(title);
        id = next;
    }
    let mut stream = gateway.resume(user, &id).await;
    titles.extend(stream.titles(1).await.0);
    assert!(stream.is_quiet_for(QUIET).await);

    let late = titles.iter().position(|title| title == "late").expect("the late one");
    titles.remove(late);
    assert_eq!(titles, numbered(1..=ROWS));
}

#[tokio::test]
async fn a_cursor_that_cannot_be_honoured_is_a_resync_and_the_stream_goes_on() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &["--replay-limit", "5"]).await;
    let user = Uuid::new_v4();
    let id = gateway.cursor(user).await;
    insert_numbered(&database, user, 1, 200).await;

    // From another database: an epoch this one has not been through, and
    // transactions it has not reached.
    let known = Cursor::parse(&id).unwrap().epoch();
    let encoded = |epoch, snapshot: &str| {
        let mut text = Vec::new();
        let snapshot: Snapshot = snapshot.parse().unwrap();
        assert!(Cursor::new(epoch, snapshot.into()).encode(&mut text));
        String::from_utf8(text).unwrap()
    };
    let foreign = encoded(known ^ 1, "9:9:");
    let future = encoded(known, "900000000:900000000:");
    for (cursor, reason) in [
        ("garbage", "malformed_cursor"),
        (&"x".repeat(3000), "malformed_cursor"),
        (&foreign, "foreign_cursor"),
        (&future, "cursor_from_the_future"),
        (&id, "too_far_back"),
    ] {
        let mut stream = gateway.resume(user, cursor).await;
        let resync = stream.next_but_heartbeat().await;
        assert_eq!(resync.name, "resync", "{resync:?}");
        assert_eq!(resync.json()["reason"], reason);
        let title = Uuid::new_v4().to_string();
        database.insert(user, &title).await;
        // What is still beyond the watermark may come once more; then it is live.
        loop {
            if stream.next_but_heartbeat().await.title() == title {
                break;
            }
        }
    }
}

#[tokio::test]
async fn heartbeats_carry_the_cursor_so_that_an_idle_clients_does_not_age() {
    let database = Database::new().await;
    let flags = ["--heartbeat", "50ms", "--sweep-interval", "50ms"];
    let gateway = TestGateway::start(&database.url, &flags).await;
    let user = Uuid::new_v4();
    let mut stream = EventSource::open(gateway.address, user).await;
    let first = stream.next().await.id.unwrap();

    insert_numbered(&database, Uuid::new_v4(), 1, 10).await;

    let moved = async {
        loop {
            let heartbeat = stream.next().await;
            assert_eq!(heartbeat.name, "heartbeat");
            let id = heartbeat.id.unwrap();
            if id != first {
                return id;
            }
        }
    };
    let id = tokio::time::timeout(crate::support::PATIENCE, moved).await.unwrap();
    assert!(id.len() < 100, "{id}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_away_streams_stay_and_then_get_what_was_committed() {
    let mut server =
        tokio::task::spawn_blocking(|| Postgres::start(&["fsync=off"]).unwrap()).await.unwrap();
    let database = Database::new_on(&server).await;
    let flags = ["--heartbeat", "100ms", "--sweep-interval", "100ms"];
    let gateway = TestGateway::start(&database.url, &flags).await;
    let user = Uuid::new_v4();
    let mut stays = gateway.connect(user).await;
    let id = gateway.cursor(user).await;

    server.stop().unwrap();
    eventually("it was noticed", async || gateway.readyz_strict().await.0 == 503).await;
    let mut resumed = gateway.resume(user, &id).await;
    let mut new = gateway.connect(user).await;
    for stream in [&mut stays, &mut resumed, &mut new] {
        assert_eq!(stream.next().await.name, "heartbeat");
    }
    server.start_server().unwrap();
    // Before the gateway listens again: no notification will bring it.
    let insert = format!(
        "INSERT INTO notifications (user_id, title, message) VALUES ('{user}', 'meanwhile', 'm')"
    );
    database.psql(&insert).await;

    for stream in [&mut stays, &mut resumed, &mut new] {
        assert_eq!(stream.titles(1).await.0, ["meanwhile"]);
    }
    gateway.ready().await;
    database.psql(&insert.replace("meanwhile", "afterwards")).await;
    for stream in [&mut stays, &mut resumed, &mut new] {
        assert_eq!(stream.titles(1).await.0, ["afterwards"]);
    }
}

#[tokio::test]
async fn a_replay_beside_a_transaction_that_stays_open_reads_no_row_that_is_not_wanted() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &["--sweep-interval", "50ms"]).await;
    let user = Uuid::new_v4();
    let open = database.session().await;
    open.batch_execute("BEGIN").await.unwrap();
    let xact = open.query_one("SELECT pg_current_xact_id()::text", &[]).await.unwrap();
    let xact: u64 = xact.get::<_, &str>(0).parse().unwrap();
    insert_numbered(&database, user, 1, 2000).await;
    database.client.batch_execute("ANALYZE notify_gateway.event").await.unwrap();
    // Past the rows: the watermark has a hole, and everything is behind it.
    let mut stream = gateway.connect(user).await;
    eventually("the watermark has moved past them", async || {
        let mut stream = EventSource::open(gateway.address, user).await;
        let id = stream.next().await.id.unwrap();
        let cursor = Cursor::parse(&id).unwrap();
        cursor.snapshot().xip().contains(&xact) && stream.is_quiet_for(QUIET).await
    })
    .await;
    while !stream.is_quiet_for(QUIET).await {}
    let id = gateway.cursor(user).await;
    insert_numbered(&database, user, 2001, 2002).await;
    let unread = Cursor::parse(&id).unwrap().unread();
    for range in &unread {
        let plan = database
            .psql(&format!(
                "SET enable_seqscan = off;
                 EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off)
                 SELECT 1 FROM notify_gateway.event n WHERE n.user_id = '{user}'
                 AND (n.xact_id, n.seq) > ('{}', {}) AND n.xact_id < '{}'
                 ORDER BY n.xact_id, n.seq LIMIT 100",
                range.after.xact, range.after.seq, range.before
            ))
            .await;
        assert!(plan.contains("event_user"), "{plan}");
        assert!(!plan.contains("Rows Removed by Filter"), "{plan}");
    }
    let mut resumed = gateway.resume(user, &id).await;
    assert_eq!(resumed.titles(2).await.0, ["2001", "2002"]);
    open.batch_execute("ROLLBACK").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_huge_rows_does_not_hold_up_the_replay_of_another() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &[]).await;
    let (heavy, light) = (Uuid::new_v4(), Uuid::new_v4());
    let mut ids = Vec::new();
    for user in [heavy, light] {
        ids.push(gateway.cursor(user).await);
    }
    let insert = format!(
        "INSERT INTO notifications (user_id, title, message)
         SELECT '{heavy}', n, repeat(md5(n::text), 60000) FROM generate_series(1, 12) n"
    );
    database.client.batch_execute(&insert).await.unwrap();
    insert_numbered(&database, light, 1, 3).await;

    let mut heavy_stream = gateway.resume(heavy, &ids[0]).await;
    let mut light_stream = gateway.resume(light, &ids[1]).await;

    assert_eq!(light_stream.titles(3).await.0, numbered(1..=3));
    assert_eq!(heavy_stream.titles(12).await.0, numbered(1..=12));
}

#[tokio::test]
async fn a_limit_below_a_page_is_kept_as_well() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &["--replay-limit", "10"]).await;
    let user = Uuid::new_v4();
    let id = gateway.cursor(user).await;
    insert_numbered(&database, user, 1, 10).await;
    assert_eq!(gateway.resume(user, &id).await.titles(10).await.0, numbered(1..=10));
    insert_numbered(&database, user, 11, 11).await;
    let resync = gateway.resume(user, &id).await.next_but_heartbeat().await;
    assert_eq!(resync.name, "resync");
    assert_eq!(resync.json()["reason"], "too_far_back");
}
