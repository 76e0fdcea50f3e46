//! The event log: how long it is kept, what is scrubbed from it, and what it says
//! where a row made no event.

use std::time::Duration;

use uuid::Uuid;

use crate::support::{Database, TestGateway, eventually, own_server};

#[tokio::test]
async fn what_is_older_than_the_retention_goes_and_only_who_may_have_missed_it_is_told() {
    let database = Database::new().await;
    let flags = ["--retention", "2s", "--sweep-interval", "100ms"];
    let gateway = TestGateway::start(&database.url, &flags).await;
    let user = Uuid::new_v4();
    let long_ago = gateway.cursor(user).await;
    let mut stays = gateway.connect(user).await;
    database.insert(user, "old").await;
    assert_eq!(stays.titles(1).await.0, ["old"]);
    let rows = "SELECT count(*) FROM notify_gateway.event";
    eventually("it has gone", async || {
        // Something is written now and then, as in any application.
        database.insert(Uuid::new_v4(), "another's").await;
        let pruned = "SELECT pruned_below IS NOT NULL FROM notify_gateway.state";
        let of_user = format!("{rows} WHERE user_id = '{user}'");
        database.psql(pruned).await.trim() == "t" && database.psql(&of_user).await.trim() == "0"
    })
    .await;
    // The application's own row stays.
    let kept = format!("SELECT count(*) FROM notifications WHERE user_id = '{user}'");
    assert_eq!(database.psql(&kept).await.trim(), "1");
    let mut resumed = gateway.resume(user, &long_ago).await;
    let event = resumed.next_but_heartbeat().await;
    assert_eq!(
        (event.name.as_str(), event.json()["reason"].as_str()),
        ("resync", Some("too_far_back"))
    );
    // One who was there all the time has missed nothing.
    database.insert(user, "new").await;
    for stream in [&mut stays, &mut resumed] {
        assert_eq!(stream.titles(1).await.0, ["new"]);
    }
    assert!(gateway.metric("notify_gateway_log_bytes").await > 1000.0);
}

#[tokio::test]
async fn what_is_deleted_in_the_application_is_scrubbed_from_the_log() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &["--sweep-interval", "100ms"]).await;
    let (user, other) = (Uuid::new_v4(), Uuid::new_v4());
    let before = gateway.cursor(user).await;
    let mut stream = gateway.connect(user).await;
    database.insert(user, "a secret").await;
    database.insert(other, "another's secret").await;
    database.psql("UPDATE notifications SET message = 'a secret still'").await;
    database.psql(&format!("DELETE FROM notifications WHERE user_id = '{user}'")).await;
    for name in ["notification", "updated", "deleted"] {
        assert_eq!(stream.next_but_heartbeat().await.name, name);
    }
    eventually("its text is gone", async || {
        let sql = format!(
            "SELECT string_agg(event, ' ') FROM notify_gateway.event WHERE user_id = '{user}'"
        );
        database.psql(&sql).await.trim() == "deleted"
    })
    .await;
    let sql = format!("SELECT count(*) FROM notify_gateway.event WHERE user_id = '{other}'");
    assert_eq!(database.psql(&sql).await.trim(), "2");
    // Who comes back is told that it is gone, and no more.
    let mut resumed = gateway.resume(user, &before).await;
    assert_eq!(resumed.next_but_heartbeat().await.name, "deleted");
    database.insert(user, "new").await;
    assert_eq!(resumed.titles(1).await.0, ["new"]);
}

#[tokio::test]
async fn a_row_that_makes_no_event_fails_no_write_and_is_shown_until_it_is_mended() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &["--sweep-interval", "100ms"]).await;
    let user = Uuid::new_v4();
    let mut stream = gateway.connect(user).await;
    database.psql("ALTER TABLE notifications RENAME title TO subject").await;
    let insert = |title: &str| {
        format!(
            "INSERT INTO notifications (user_id, subject, message) VALUES ('{user}', '{title}', 'm')"
        )
    };
    for n in 0..3 {
        database.psql(&insert(&format!("unheard {n}"))).await;
    }
    eventually("it is said", async || {
        let (status, said) = gateway.readyz_strict().await;
        status == 503 && said.contains("notifications") && said.contains("title")
    })
    .await;
    assert_eq!(gateway.readyz().await.0, 200);
    eventually("each is counted", async || {
        gateway.metric("notify_gateway_record_problems_total").await > 2.5
    })
    .await;
    let watch = "SELECT notify_gateway.watch('notifications',
                     data => '{\"id\": \"id\", \"title\": \"subject\"}')";
    database.psql(watch).await;
    database.psql(&insert("heard")).await;
    assert_eq!(stream.titles(1).await.0, ["heard"]);
    eventually("it is well", async || gateway.readyz_strict().await.0 == 200).await;
}

#[tokio::test]
async fn a_table_that_takes_the_place_of_another_is_missed_until_it_is_watched() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &["--sweep-interval", "100ms"]).await;
    let user = Uuid::new_v4();
    let mut stream = gateway.connect(user).await;
    database
        .psql(
            "CREATE TABLE fresh (LIKE notifications INCLUDING ALL);
             ALTER TABLE notifications RENAME TO archive;
             ALTER TABLE fresh RENAME TO notifications",
        )
        .await;
    database.insert(user, "unheard").await;
    eventually("it is said", async || {
        let (status, said) = gateway.readyz_strict().await;
        status == 503 && said.contains("notify_gateway.watch('public.notifications')")
    })
    .await;
    assert_eq!(gateway.readyz().await.0, 200);
    database.psql("SELECT notify_gateway.watch('notifications')").await;
    database.insert(user, "heard").await;
    assert_eq!(stream.titles(1).await.0, ["heard"]);
    eventually("it is well", async || gateway.readyz_strict().await.0 == 200).await;
    let watched = "SELECT relation, trigger FROM notify_gateway.watched ORDER BY relation";
    assert_eq!(database.psql(watched).await.trim(), "archive|always\nnotifications|always");

    database.psql("ALTER TABLE notifications DISABLE TRIGGER USER").await;
    eventually("what is off is said, too", async || {
        let (status, said) = gateway.readyz_strict().await;
        status == 503 && said.contains("ALTER TABLE public.notifications ENABLE ALWAYS TRIGGER")
    })
    .await;
}

#[tokio::test]
async fn keys_that_are_too_long_make_no_event_and_fail_no_write() {
    let database = Database::new().await;
    database
        .psql("CREATE TABLE long (id text, user_id text); SELECT notify_gateway.watch('long')")
        .await;
    for sql in [
        "INSERT INTO long VALUES (repeat('x', 5000), 'ada')",
        "INSERT INTO long VALUES ('1', repeat('y', 5000))",
        "INSERT INTO long SELECT string_agg(md5(n::text), ''), 'ada' FROM generate_series(1, 1000) n",
        "UPDATE long SET user_id = 'bob'",
        "DELETE FROM long",
    ] {
        database.psql(sql).await;
    }
    let problems = "SELECT DISTINCT sqlstate, message FROM notify_gateway.problem";
    assert_eq!(
        database.psql(problems).await.trim(),
        "22001|the user or the id is longer than 255 bytes"
    );
}

#[tokio::test]
async fn a_writer_never_waits_for_another_because_of_us() {
    let database = Database::new().await;
    let _gateway = TestGateway::start(&database.url, &["--sweep-interval", "50ms"]).await;
    let user = Uuid::new_v4();
    // A transaction that has written, and stays.
    let open = database.session().await;
    let insert =
        format!("INSERT INTO notifications (user_id, title, message) VALUES ('{user}', 'a', 'b')");
    open.batch_execute(&format!("BEGIN ISOLATION LEVEL SERIALIZABLE; {insert}")).await.unwrap();
    let other = database.session().await;
    other.batch_execute("SET lock_timeout = '100ms'").await.unwrap();
    for isolation in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] {
        let sql = format!(
            "BEGIN ISOLATION LEVEL {isolation}; {insert}; UPDATE notifications SET
                           status = 'read' WHERE title = 'mine'; COMMIT"
        );
        tokio::time::timeout(Duration::from_secs(5), other.batch_execute(&sql))
            .await
            .unwrap()
            .unwrap();
    }
    open.batch_execute("COMMIT").await.unwrap();
}

/// As many rows as in a large campaign are a matter of `BULK=400000`.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_with_a_short_lock_timeout_meets_no_lock_beside_one_of_very_many_rows() {
    let rows = std::env::var("BULK").unwrap_or_else(|_| "40000".to_owned());
    let server = own_server(&[]).await;
    let database = Database::new_on(&server).await;
    let gateway = TestGateway::start(&database.url, &[]).await;
    let (user, everybody) = (Uuid::new_v4(), Uuid::new_v4());
    let mut stream = gateway.connect(user).await;
    let bulk = database.session().await;
    let bulk = tokio::spawn(async move {
        let insert = format!(
            "INSERT INTO notifications (user_id, title, message)
             SELECT '{everybody}', n, 'm' FROM generate_series(1, {rows}) n"
        );
        bulk.batch_execute(&insert).await.unwrap();
    });
    let writer = database.session().await;
    writer.batch_execute("SET lock_timeout = '100ms'").await.unwrap();
    let mut titles = Vec::new();
    while !bulk.is_finished() || titles.len() < 100 {
        titles.push(titles.len().to_string());
        let insert = "INSERT INTO notifications (user_id, title, message) VALUES ($1, $2, '')";
        writer.execute(insert, &[&user, titles.last().unwrap()]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    bulk.await.unwrap();
    assert_eq!(stream.titles(titles.len()).await.0, titles);
}
