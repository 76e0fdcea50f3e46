//! A pooler between the gateway and Postgres: by session it is not noticed, by
//! transaction it is found, and nothing of the gateway stays on its connections.

use uuid::Uuid;

use crate::support::{Database, Network, PgBouncer, TestGateway, connect, eventually};

/// What clients of poolers find on the server connections they are given: settings
/// and channels. Transactions that are open at once are given all of them.
async fn left_behind(url: &str, connections: usize) -> Vec<String> {
    // The name of the application is set by the pooler itself, for each client.
    let sql = "SELECT concat_ws(' ',
                 (SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) FROM pg_settings
                  WHERE source = 'session' AND name <> 'application_name'),
                 (SELECT string_agg('LISTEN ' || channel, ' ')
                  FROM pg_listening_channels() AS channel))";
    let mut clients = Vec::new();
    let mut found = Vec::new();
    for _ in 0..connections {
        let client = connect(url).await;
        client.batch_execute("BEGIN").await.unwrap();
        let messages = client.simple_query(sql).await.unwrap();
        let row = messages.into_iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        found.push(row.unwrap().get(0).unwrap_or_default().to_owned());
        clients.push(client);
    }
    for client in clients {
        client.batch_execute("ROLLBACK").await.unwrap();
    }
    found
}

/// A gateway on `url`, which goes through poolers with so many connections.
async fn is_served_by_the_sweep(database: &Database, url: &str, connections: usize) {
    let before = left_behind(url, connections).await;
    let gateway = TestGateway::start_unready(url, &["--sweep-interval", "100ms"]).await;
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
    gateway.stop();
    gateway.ended().await.unwrap();
    assert_eq!(left_behind(url, connections).await, before);
}

#[tokio::test]
async fn by_transaction_it_is_found_and_rows_come_by_the_sweep_and_no_setting_stays() {
    let database = Database::new().await;
    let Some(pooler) = PgBouncer::start(&database.url, "transaction", 1).await else { return };
    is_served_by_the_sweep(&database, &pooler.url(&database.url), 1).await;
}

#[tokio::test]
async fn by_transaction_several_of_them_behind_one_address_are_found_as_well() {
    let database = Database::new().await;
    let Some(one) = PgBouncer::start(&database.url, "transaction", 3).await else { return };
    let Some(other) = PgBouncer::start(&database.url, "transaction", 3).await else { return };
    let balancer = Network::to_each(vec![one.port(), other.port()]).await;
    is_served_by_the_sweep(&database, &balancer.url(&database.url), 6).await;
}

#[tokio::test]
async fn by_transaction_it_is_good_enough_for_all_but_listen() {
    let database = Database::new().await;
    let Some(pooler) = PgBouncer::start(&database.url, "transaction", 1).await else { return };
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
    let Some(pooler) = PgBouncer::start(&database.url, "session", 20).await else { return };
    let gateway = TestGateway::start(&pooler.url(&database.url), &[]).await;
    let user = Uuid::new_v4();
    let mut stream = gateway.connect(user).await;
    database.insert(user, "at once").await;
    assert_eq!(stream.titles(1).await.0, ["at once"]);
}
