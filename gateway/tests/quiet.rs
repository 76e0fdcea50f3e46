//! Under load the triggers are quiet, and nothing is lost, late or out of order by it.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio_postgres::{AsyncMessage, Client, NoTls};
use uuid::Uuid;

use crate::support::{Database, TestGateway, eventually, own_server};

const INSERT: &str = "INSERT INTO notifications (user_id, title, message) VALUES ($1, $2, '')";

/// Quiet past twenty transactions a second.
const SOON: [&str; 2] = ["--quiet-above", "20"];

/// What rings on the channel, from now on.
async fn rings(database: &Database) -> (Client, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let (client, mut connection) =
        tokio_postgres::connect(&database.owner_url, NoTls).await.unwrap();
    let (heard, hears) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut messages = stream::poll_fn(move |cx| connection.poll_message(cx));
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notification(notification) = message {
                let _gone = heard.send(notification.payload().to_owned());
            }
        }
    });
    client.batch_execute("LISTEN notifications").await.unwrap();
    (client, hears)
}

/// How many of the rings were of events, and not of gateways.
async fn events(
    listener: &Client,
    rings: &mut tokio::sync::mpsc::UnboundedReceiver<String>,
) -> usize {
    // Behind what was notified before.
    listener.batch_execute("SELECT 1").await.unwrap();
    let mut count = 0;
    while let Ok(ring) = rings.try_recv() {
        count += usize::from(ring.contains("data"));
    }
    count
}

async fn is_quiet(database: &Database) -> bool {
    let sql = "SELECT coalesce(quiet_until > clock_timestamp(), false) FROM notify_gateway.state";
    database.client.query_one(sql, &[]).await.unwrap().get(0)
}

/// Writes until it is quiet; how many rows that took.
async fn load(database: &Database, user: Uuid) -> usize {
    for number in 0..5000 {
        database.insert(user, &number.to_string()).await;
        if is_quiet(database).await {
            return number + 1;
        }
    }
    panic!("it is not quiet");
}

#[tokio::test]
async fn under_load_nothing_rings_and_every_row_comes_once_and_in_order() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &SOON).await;
    let other = TestGateway::start(&database.url, &["--quiet", "never"]).await;
    let user = Uuid::new_v4();
    let (mut stream, mut beside) = (gateway.connect(user).await, other.connect(user).await);
    let (listener, mut hears) = rings(&database).await;
    let loud = load(&database, user).await;
    assert!(events(&listener, &mut hears).await >= loud - 1);
    eventually("the gateway says so", async || gateway.metric("notify_gateway_quiet").await > 0.0)
        .await;
    // As long as the load lasts, it is renewed.
    let mut number = loud;
    let until = tokio::time::Instant::now() + Duration::from_millis(2500);
    while tokio::time::Instant::now() < until {
        database.insert(user, &number.to_string()).await;
        number += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(events(&listener, &mut hears).await, 0, "of {}", number - loud);
    let titles: Vec<String> = (0..number).map(|number| number.to_string()).collect();
    assert_eq!(stream.titles(number).await.0, titles);
    assert_eq!(beside.titles(number).await.0, titles);
    // And ends with it.
    eventually("it is loud again", async || !is_quiet(&database).await).await;
    eventually("the gateways say so", async || {
        gateway.metric("notify_gateway_quiet").await + other.metric("notify_gateway_quiet").await
            == 0.0
    })
    .await;
    database.insert(user, "loud").await;
    assert_eq!(events(&listener, &mut hears).await, 1);
    assert_eq!(stream.titles(1).await.0, ["loud"]);
    assert_eq!(beside.titles(1).await.0, ["loud"]);
}

#[tokio::test]
async fn a_transaction_that_was_silent_comes_before_what_rings_after_it() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &SOON).await;
    let user = Uuid::new_v4();
    database.insert(user, "it").await;
    let stream = &mut gateway.connect(user).await;
    let loud = load(&database, Uuid::new_v4()).await;
    assert!(loud > 1);
    // It begins to write while it is quiet, and is over when it no longer is.
    let client = database.session().await;
    let update = |title: &str| {
        format!("UPDATE notifications SET title = '{title}' WHERE user_id = '{user}'")
    };
    client.batch_execute(&format!("BEGIN; {}", update("silent"))).await.unwrap();
    eventually("it is loud again", async || !is_quiet(&database).await).await;
    eventually("the gateway says so", async || gateway.metric("notify_gateway_quiet").await == 0.0)
        .await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    client.batch_execute("COMMIT").await.unwrap();
    client.batch_execute(&update("rings")).await.unwrap();
    let mut titles = Vec::new();
    while titles.last().is_none_or(|last| last != "rings") {
        let event = stream.next_but_heartbeat().await;
        if event.name == "updated" {
            titles.push(event.title());
        }
    }
    assert_eq!(titles, ["silent", "rings"]);
    assert!(stream.is_quiet_for(Duration::from_millis(300)).await);
}

#[tokio::test]
async fn quiet_that_nobody_renews_ends_and_a_moment_far_ahead_counts_for_nothing() {
    let database = Database::new().await;
    let (listener, mut hears) = rings(&database).await;
    let user = Uuid::new_v4();
    let mut set = async |until: &str| {
        let sql = format!("UPDATE notify_gateway.state SET quiet_until = {until}");
        database.client.batch_execute(&sql).await.unwrap();
        database.insert(user, until).await;
        events(&listener, &mut hears).await
    };
    assert_eq!(set("clock_timestamp() + interval '1 s'").await, 0);
    assert_eq!(set("clock_timestamp() - interval '1 ms'").await, 1);
    assert_eq!(set("clock_timestamp() + interval '1 hour'").await, 1, "the clock was set back");
    assert_eq!(set("'infinity'").await, 0);
    assert_eq!(set("NULL").await, 1);
    assert_eq!(set("'infinity'").await, 0);
    // A gateway that is not to be always quiet takes that back.
    let gateway = TestGateway::start(&database.url, &[]).await;
    let mut stream = gateway.connect(user).await;
    eventually("it is loud", async || !is_quiet(&database).await).await;
    database.insert(user, "loud").await;
    while stream.titles(1).await.0 != ["loud"] {}
}

#[tokio::test(flavor = "multi_thread")]
async fn always_quiet_transactions_can_be_prepared() {
    let server = own_server(&["fsync=off", "max_prepared_transactions=2"]).await;
    let database = Database::new_on(&server).await;
    let user = Uuid::new_v4();
    let prepare = format!(
        "BEGIN; INSERT INTO notifications (user_id, title, message) VALUES ('{user}', 'two phases', '');
         PREPARE TRANSACTION 'it'"
    );
    assert!(database.client.batch_execute(&prepare).await.is_err(), "it rings");
    let gateway = TestGateway::start(&database.url, &["--quiet", "always"]).await;
    let mut stream = gateway.connect(user).await;
    eventually("it is quiet", async || is_quiet(&database).await).await;
    let client = database.session().await;
    client.batch_execute(&prepare).await.unwrap();
    client.execute(INSERT, &[&user, &"beside"]).await.unwrap();
    assert_eq!(stream.titles(1).await.0, ["beside"]);
    client.batch_execute("COMMIT PREPARED 'it'").await.unwrap();
    assert_eq!(stream.titles(1).await.0, ["two phases"]);
    drop(gateway);
    // With no gateway as well.
    client.batch_execute(&prepare).await.unwrap();
    client.batch_execute("ROLLBACK PREPARED 'it'").await.unwrap();
}
