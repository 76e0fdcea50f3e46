//! A pooler between the gateway and Postgres: by session it is not noticed, by
//! transaction it is found, and nothing of the gateway stays on its connections.

use uuid::Uuid;

use crate::support::{Database, PgBouncer, TestGateway, connect, eventually};

/// What a client of the pooler finds set on the connection it is given.
async fn settings(url: &str) -> String {
    let client = connect(url).await;
    // The name of the application is set by the pooler itself, for each client.
    let sql = "SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) FROM pg_settings
               WHERE source = 'session' AND name <> 'application_name'";
    let messages = client.simple_query(sql).await.unwrap();
    let row = messages.into_iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    row.unwrap().get(0).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn by_transaction_it_is_found_and_rows_come_by_the_sweep_and_no_setting_stays() {
    let database = Database::new().await;
    let Some(pooler) = PgBouncer::start(&database.url, "transaction").await else { return };
    let url = pooler.url(&database.url);
    let before = settings(&url).await;

    let gateway = TestGateway::start_unready(&url, &["--sweep-interval", "100ms"]).await;
    eventually("it takes streams", async || gateway.readyz().await.0 == 200).await;
    eventually("the pooler is named", async || {
        let (status, said) = gateway.readyz_strict().await;
        status == 503 && said.contains("transaction mode") && said.contains("LISTEN_DATABASE_URL")
    })
    .await;
    let user = Uuid::new_v4();
    let mut stream = gateway.connect(user).await;
    database.insert(user, "by the sweep").await;
    assert_eq!(stream.titles(1).await.0, ["by the sweep"]);
    assert_eq!(settings(&url).await, before);

    gateway.stop();
    gateway.ended().await.unwrap();
    assert_eq!(settings(&url).await, before);
    let listening = connect(&url).await;
    let channels = listening.simple_query("SELECT * FROM pg_listening_channels()").await.unwrap();
    let is_row = |m: &_| matches!(m, tokio_postgres::SimpleQueryMessage::Row(_));
    assert!(!channels.iter().any(is_row), "a LISTEN stayed on the pooled connection");
}

#[tokio::test]
async fn by_transaction_it_is_good_enough_for_all_but_listen() {
    let database = Database::new().await;
    let Some(pooler) = PgBouncer::start(&database.url, "transaction").await else { return };
    let flags = ["--listen-database-url", &database.url];
    let gateway = TestGateway::start(&pooler.url(&database.url), &flags).await;
    let user = Uuid::new_v4();
    let cursor = gateway.cursor(user).await;
    let mut stream = gateway.connect(user).await;
    database.insert(user, "at once").await;
    assert_eq!(stream.titles(1).await.0, ["at once"]);
    let mut resumed = gateway.resume(user, &cursor).await;
    assert_eq!(resumed.titles(1).await.0, ["at once"]);
}

#[tokio::test]
async fn by_session_it_is_not_noticed() {
    let database = Database::new().await;
    let Some(pooler) = PgBouncer::start(&database.url, "session").await else { return };
    let gateway = TestGateway::start(&pooler.url(&database.url), &[]).await;
    let user = Uuid::new_v4();
    let mut stream = gateway.connect(user).await;
    database.insert(user, "at once").await;
    assert_eq!(stream.titles(1).await.0, ["at once"]);
}
