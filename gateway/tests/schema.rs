//! `schema.sql` on the databases it meets.

use notify_gateway::schema;
use uuid::Uuid;

use crate::support::{Database, TestGateway, default_schema};

#[tokio::test]
async fn another_table_and_another_channel_work_the_same() {
    let database = Database::empty().await;
    database.client.batch_execute("CREATE SCHEMA app").await.unwrap();
    let table = "app.user_notes".parse().unwrap();
    let sql = schema::sql(&table, "it's a bell");
    database.client.batch_execute(&sql).await.unwrap();
    database.client.batch_execute(&sql).await.unwrap();
    let flags = ["--table", "app.user_notes", "--channel", "it's a bell"];
    let gateway = TestGateway::start(&database.url, &flags).await;
    let user = Uuid::new_v4();
    let mut stream = gateway.connect(user).await;

    let insert =
        format!("INSERT INTO app.user_notes (user_id, title, message) VALUES ('{user}', 't', 'm')");
    database.client.batch_execute(&insert).await.unwrap();

    assert_eq!(stream.next().await.title(), "t");
}

#[tokio::test]
async fn an_applications_own_table_keeps_its_rows_and_its_file() {
    let database = Database::empty().await;
    database
        .client
        .batch_execute(
            "CREATE TYPE kind AS ENUM ('info', 'success', 'warning', 'error');
             CREATE TABLE notifications (
                 id uuid PRIMARY KEY, user_id uuid NOT NULL, type kind NOT NULL,
                 title varchar(200) NOT NULL, message text NOT NULL,
                 status varchar(20) NOT NULL, metadata json, related_session_id uuid,
                 created_at timestamptz NOT NULL DEFAULT now());
             INSERT INTO notifications
             SELECT gen_random_uuid(), gen_random_uuid(), 'info', 'old ' || n, 'm', 'unread'
             FROM generate_series(1, 1000) n",
        )
        .await
        .unwrap();
    let file = "SELECT pg_relation_filenode('notifications')::text";
    let before = database.psql(file).await;

    database.client.batch_execute(&default_schema()).await.unwrap();

    assert_eq!(database.psql(file).await, before, "the table was rewritten");
    let gateway = TestGateway::start(&database.url, &[]).await;
    let user = Uuid::new_v4();
    let mut stream = gateway.connect(user).await;
    // Line ends in a json column are kept by Postgres; the event must survive.
    let sql = format!(
        "INSERT INTO notifications (id, user_id, type, title, message, status, metadata)
         VALUES (gen_random_uuid(), '{user}', 'error', 'new', 'm', 'unread', E'{{\"a\":\\r\\n [1,\\n\\n2]}}')"
    );
    database.psql(&sql).await;
    let event = stream.next().await;
    assert_eq!(event.title(), "new");
    assert_eq!(event.json()["metadata"], serde_json::json!({"a": [1, 2]}));
    assert_eq!(event.json()["type"], "error");
}

#[tokio::test]
async fn a_second_run_changes_nothing() {
    let database = Database::new().await;
    let state = "SELECT json_agg(c ORDER BY c.oid)::text || (SELECT json_agg(t ORDER BY t.oid)::text
                     FROM (SELECT oid, tgname, tgenabled, xmin::text FROM pg_trigger) t)
                 FROM (SELECT oid, relname, relfilenode, xmin::text FROM pg_class
                       WHERE relnamespace IN ('public'::regnamespace, 'notify_gateway'::regnamespace)) c";
    let before = database.psql(state).await;
    database.client.batch_execute(&default_schema()).await.unwrap();
    assert_eq!(database.psql(state).await, before);
}

#[tokio::test]
async fn a_writer_without_any_grant_on_our_schema_rings_the_bell() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &[]).await;
    let user = Uuid::new_v4();
    let mut stream = gateway.connect(user).await;
    let role = format!("writer_{}", Uuid::new_v4().simple());

    database
        .psql(&format!(
            "CREATE ROLE {role}; GRANT INSERT ON notifications TO {role}; SET ROLE {role};
             INSERT INTO notifications (user_id, title, message, xact_id, seq)
             VALUES ('{user}', 'unprivileged', 'm', '1', 1)"
        ))
        .await;

    assert_eq!(stream.next().await.title(), "unprivileged");
    // What a writer says about our columns is not believed.
    assert_eq!(database.psql("SELECT xact_id::text <> '1' FROM notifications").await.trim(), "t");
    database.psql(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}
