//! What becomes of a row after it was written is told as well: to the users that it
//! concerns, live and replayed with the same bytes.

use serde_json::json;
use uuid::Uuid;

use crate::support::{Database, Event, TestGateway, eventually};

async fn named(stream: &mut crate::support::EventSource, count: usize) -> Vec<Event> {
    let mut events = Vec::new();
    for _ in 0..count {
        events.push(stream.next_but_heartbeat().await);
    }
    events
}

fn names(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.name.as_str()).collect()
}

#[tokio::test]
async fn a_change_is_updated_a_deletion_is_deleted_and_what_changes_nothing_is_nothing() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &[]).await;
    let (ada, grace) = (Uuid::new_v4(), Uuid::new_v4());
    let before = [gateway.cursor(ada).await, gateway.cursor(grace).await];
    let mut streams = [gateway.connect(ada).await, gateway.connect(grace).await];
    let id = Uuid::new_v4();
    for sql in [
        format!(
            "INSERT INTO notifications (id, user_id, title, message) VALUES ('{id}', '{ada}', 't', 'm')"
        ),
        "UPDATE notifications SET status = 'read'".to_owned(),
        "UPDATE notifications SET status = 'read'".to_owned(),
        // To another user.
        format!("UPDATE notifications SET user_id = '{grace}'"),
        "DELETE FROM notifications".to_owned(),
    ] {
        database.psql(&sql).await;
    }
    let of_ada = named(&mut streams[0], 3).await;
    assert_eq!(names(&of_ada), ["notification", "updated", "deleted"]);
    assert_eq!(of_ada[1].json()["status"], "read");
    assert_eq!(of_ada[2].json(), json!({ "id": id.to_string() }));
    let of_grace = named(&mut streams[1], 2).await;
    assert_eq!(names(&of_grace), ["notification", "deleted"]);
    // A sentinel: nothing came besides.
    for (user, stream) in [ada, grace].iter().zip(&mut streams) {
        database.insert(*user, "the last").await;
        assert_eq!(stream.next_but_heartbeat().await.title(), "the last");
    }
    // What is gone is not sent again to one who comes back; that it is gone is.
    for (user, id) in [ada, grace].iter().zip(&before) {
        let mut resumed = gateway.resume(*user, id).await;
        loop {
            let event = resumed.next_but_heartbeat().await;
            if event.name == "notification" && event.title() == "the last" {
                break;
            }
            assert!(["notification", "updated", "deleted"].contains(&event.name.as_str()));
        }
    }
    for event in ["notification", "updated", "deleted"] {
        let sent = format!("sse_messages_sent_total{{event_type=\"{event}\"}}");
        assert!(gateway.metric(&sent).await > 0.5, "{event}");
    }
}

#[tokio::test]
async fn a_draft_is_told_when_it_is_published_and_gone_when_it_is_withdrawn() {
    let database = Database::new().await;
    database
        .psql(
            "CREATE TABLE posts (id serial PRIMARY KEY, author text, body text, published_at timestamptz);
             SELECT notify_gateway.watch('posts', user_id => 'author', event => 'post',
                 data => '{\"id\": \"id\", \"message\": \"body\", \"is_long\": \"length(body) > 3\"}',
                 \"when\" => 'published_at IS NOT NULL')",
        )
        .await;
    let gateway = TestGateway::start(&database.url, &[]).await;
    let mut stream = gateway.connect_as("auth0|ada", None).await;
    assert_eq!(stream.next().await.name, "connected");
    for sql in [
        "INSERT INTO posts (author, body) VALUES ('auth0|ada', 'draft')",
        "UPDATE posts SET body = 'still a draft'",
        "UPDATE posts SET published_at = now()",
        "UPDATE posts SET body = 'no'",
        "UPDATE posts SET published_at = now() + interval '1 day'",
        "UPDATE posts SET published_at = NULL",
        "DELETE FROM posts",
        "INSERT INTO posts (author, body, published_at) VALUES ('auth0|ada', 'at once', now())",
    ] {
        database.psql(sql).await;
    }
    let events = named(&mut stream, 4).await;
    assert_eq!(names(&events), ["post", "updated", "deleted", "post"]);
    assert_eq!(events[0].json(), json!({"id": 1, "message": "still a draft", "is_long": true}));
    assert_eq!(events[1].json(), json!({"id": 1, "message": "no", "is_long": false}));
    assert_eq!(events[2].json(), json!({"id": 1}));
}

#[tokio::test]
async fn a_row_that_moves_to_another_partition_is_changed_and_not_gone() {
    let database = Database::new().await;
    database
        .psql(
            "CREATE TABLE alerts (id int, user_id int, at date) PARTITION BY RANGE (at);
             CREATE TABLE alerts_1 PARTITION OF alerts FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
             CREATE TABLE alerts_2 PARTITION OF alerts FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
             SELECT notify_gateway.watch('alerts')",
        )
        .await;
    let gateway = TestGateway::start(&database.url, &[]).await;
    let mut stream = gateway.connect_as("7", None).await;
    assert_eq!(stream.next().await.name, "connected");
    for sql in [
        "INSERT INTO alerts VALUES (1, 7, '2026-01-10'), (2, 7, '2026-01-11')",
        "UPDATE alerts SET at = '2026-02-10'",
        "INSERT INTO alerts_1 VALUES (3, 7, '2026-01-12')",
        "DELETE FROM alerts WHERE id = 1",
    ] {
        database.psql(sql).await;
    }
    let events = named(&mut stream, 6).await;
    assert_eq!(
        names(&events),
        ["notification", "notification", "updated", "updated", "notification", "deleted"]
    );
    assert_eq!(events[3].json(), json!({"id": 2, "user_id": 7, "at": "2026-02-10"}));
}

#[tokio::test]
async fn a_change_right_behind_one_of_many_rows_is_the_last_that_is_told_of_its_row() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &[]).await;
    let user = Uuid::new_v4();
    let mut stream = gateway.connect(user).await;
    database
        .psql(&format!(
            "INSERT INTO notifications (user_id, title, message)
             SELECT '{user}', n, 'm' FROM generate_series(1, 50) n"
        ))
        .await;
    assert_eq!(stream.titles(50).await.0.len(), 50);
    for round in 0..20 {
        // Of the first the notification carries one row, and of the second the only one.
        for sql in [
            format!("UPDATE notifications SET message = 'all {round}'"),
            format!("UPDATE notifications SET message = 'one {round}' WHERE title = '37'"),
        ] {
            database.client.batch_execute(&sql).await.unwrap();
        }
        let mut of_row = Vec::new();
        for _ in 0..51 {
            let event = stream.next_but_heartbeat().await;
            assert_eq!(event.name, "updated");
            if event.title() == "37" {
                of_row.push(event.json()["message"].as_str().unwrap().to_owned());
            }
        }
        assert_eq!(of_row, [format!("all {round}"), format!("one {round}")]);
    }
}

#[tokio::test]
async fn what_is_never_rung_for_comes_before_what_its_transaction_rings_for_later() {
    let database = Database::new().await;
    database
        .psql(
            "CREATE TABLE silent (id int, user_id text, title text);
             SELECT notify_gateway.watch('silent', ring => 'never')",
        )
        .await;
    let gateway = TestGateway::start(&database.url, &[]).await;
    let user = Uuid::new_v4();
    let mut stream = gateway.connect(user).await;
    for round in 0..3 {
        database
            .client
            .batch_execute(&format!(
                "BEGIN;
                 INSERT INTO silent VALUES (1, '{user}', 'first');
                 INSERT INTO notifications (user_id, title, message) VALUES ('{user}', 'second', '');
                 INSERT INTO notifications (user_id, title, message) VALUES ('{user}', 'third', '');
                 COMMIT"
            ))
            .await
            .unwrap();
        assert_eq!(stream.titles(3).await.0, ["first", "second", "third"], "round {round}");
    }
}

#[tokio::test]
async fn what_was_never_rung_for_comes_before_what_the_same_table_rings_for_from_now_on() {
    let database = Database::new().await;
    let watch = |ring: &str| format!("SELECT notify_gateway.watch('silent', ring => '{ring}')");
    let create = "CREATE TABLE silent (id serial, user_id text, title text)";
    database.psql(&format!("{create}; {}", watch("never"))).await;
    let gateway = TestGateway::start(&database.url, &["--sweep-interval", "5s"]).await;
    let user = Uuid::new_v4();
    let mut stream = gateway.connect(user).await;
    let anew = format!("SELECT notify_gateway.unwatch('silent'); {}", watch("row"));
    for louder in [watch("row"), watch("ring"), anew] {
        let insert = format!("INSERT INTO silent (user_id, title) VALUES ('{user}', 'old')");
        for sql in [&watch("never"), &insert, &louder, "UPDATE silent SET title = 'new'"] {
            database.client.batch_execute(sql).await.unwrap();
        }
        let events = named(&mut stream, 2).await;
        assert_eq!(names(&events), ["notification", "updated"], "{louder}");
        database.client.batch_execute("DELETE FROM silent").await.unwrap();
        assert_eq!(stream.next_but_heartbeat().await.name, "deleted");
    }
}

#[tokio::test]
async fn a_replay_ends_with_the_last_state_though_the_last_to_write_has_the_lowest_number() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &[]).await;
    let ada = Uuid::new_v4();
    let [changed, deleted, new, newly_gone] = std::array::from_fn(|_| Uuid::new_v4());
    let insert = |id: Uuid| {
        format!(
            "INSERT INTO notifications (id, user_id, title, message)
             VALUES ('{id}', '{ada}', 'first', 'a text to be scrubbed')"
        )
    };
    database.psql(&[changed, deleted].map(insert).join(";")).await;
    let before = gateway.cursor(ada).await;
    // It has a number before the others do, and comes to these rows after them.
    let session = database.session().await;
    session.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.unwrap();
    for status in 1..=150 {
        let rename = format!("UPDATE notifications SET title = 'second', status = '{status}'");
        database.psql(&rename).await;
    }
    database.psql(&[new, newly_gone].map(insert).join(";")).await;
    session
        .batch_execute(&format!(
            "UPDATE notifications SET title = 'third';
             DELETE FROM notifications WHERE id IN ('{deleted}', '{newly_gone}'); COMMIT"
        ))
        .await
        .unwrap();
    // More than a page of what has been overtaken lies before it.
    database.insert(ada, "the last").await;
    let mut stream = gateway.resume(ada, &before).await;
    let (mut shown, mut told) = (std::collections::HashMap::new(), Vec::new());
    loop {
        let event = stream.next_but_heartbeat().await;
        if event.name == "notification" && event.title() == "the last" {
            break;
        }
        let id: Uuid = event.json()["id"].as_str().unwrap().parse().unwrap();
        told.push((event.name.clone(), id));
        shown.insert(id, (event.name != "deleted").then(|| event.title().to_owned()));
    }
    let third = || Some("third".to_owned());
    assert_eq!(
        shown,
        [(changed, third()), (deleted, None), (new, third()), (newly_gone, None)].into()
    );
    // It rings for the one that is new and there, once.
    let rings = |id| told.iter().filter(|told| **told == ("notification".to_owned(), id)).count();
    assert_eq!([new, newly_gone].map(rings), [1, 0]);
    let texts = format!(
        "SELECT count(*) FROM notify_gateway.event
         WHERE row_id IN ('{deleted}', '{newly_gone}') AND data LIKE '%scrubbed%'"
    );
    eventually("the texts of what is gone are gone", async || {
        database.psql(&texts).await.trim() == "0"
    })
    .await;
}
