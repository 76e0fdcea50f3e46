//! `schema.sql` on the databases it meets.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use notify_gateway::schema::sql_without_table;
use uuid::Uuid;

use crate::support::{Database, TestGateway, command, connect, default_schema};

#[tokio::test]
async fn another_channel_works_the_same() {
    let database = Database::empty().await;
    let sql = notify_gateway::schema::sql("it's a bell");
    database.client.batch_execute(&sql).await.unwrap();
    database.client.batch_execute(&sql).await.unwrap();
    let flags = ["--channel", "it's a bell", "--sweep-interval", "1h"];
    let gateway = TestGateway::start(&database.url, &flags).await;
    let user = Uuid::new_v4();
    let mut stream = gateway.connect(user).await;
    database.insert(user, "t").await;
    assert_eq!(stream.next().await.title(), "t");
}

#[tokio::test]
async fn an_applications_own_table_keeps_its_rows_its_columns_and_its_file() {
    let database = Database::empty().await;
    database
        .client
        .batch_execute(
            "CREATE TYPE kind AS ENUM ('info', 'success', 'warning', 'error');
             CREATE TABLE notifications (
                 id uuid PRIMARY KEY, user_id uuid NOT NULL, type kind NOT NULL,
                 title varchar(200), message text,
                 status varchar(20) NOT NULL, metadata json, related_session_id uuid,
                 created_at timestamptz NOT NULL DEFAULT now());
             INSERT INTO notifications
             SELECT gen_random_uuid(), gen_random_uuid(), 'info', 'old ' || n, 'm', 'unread'
             FROM generate_series(1, 1000) n",
        )
        .await
        .unwrap();
    let table = "SELECT pg_relation_filenode('notifications')::text
                     || (SELECT string_agg(attname || atttypid || atthasdef, ',' ORDER BY attnum)
                         FROM pg_attribute WHERE attrelid = 'notifications'::regclass)
                     || (SELECT string_agg(indexrelid::regclass::text, ',')
                         FROM pg_index WHERE indrelid = 'notifications'::regclass)";
    let before = database.psql(table).await;

    database.client.batch_execute(&default_schema()).await.unwrap();

    assert_eq!(database.psql(table).await, before, "the table is another");
    let gateway = TestGateway::start(&database.url, &[]).await;
    let user = Uuid::new_v4();
    let cursor = gateway.cursor(user).await;
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
    // Nullable columns, live and replayed.
    let nulls = format!(
        "INSERT INTO notifications (id, user_id, type, status)
         VALUES (gen_random_uuid(), '{user}', 'info', 'unread')"
    );
    database.psql(&nulls).await;
    let live = stream.next().await;
    assert_eq!(live.json()["title"], serde_json::Value::Null);
    let mut resumed = gateway.resume(user, &cursor).await;
    assert_eq!(resumed.next().await.data, event.data);
    assert_eq!(resumed.next().await.data, live.data);
}

#[tokio::test]
async fn a_second_run_changes_nothing() {
    let database = Database::new().await;
    let state = "SELECT json_agg(c ORDER BY c.oid)::text
                     || (SELECT json_agg(t ORDER BY t.oid)::text
                         FROM (SELECT oid, tgname, tgenabled, xmin::text FROM pg_trigger) t)
                     || (SELECT json_agg(f ORDER BY f.oid)::text FROM (SELECT oid, prosrc FROM pg_proc
                         WHERE pronamespace = 'notify_gateway'::regnamespace) f)
                     || (SELECT xmin::text FROM notify_gateway.watch_entry)
                 FROM (SELECT oid, relname, relfilenode FROM pg_class
                       WHERE relnamespace IN ('public'::regnamespace, 'notify_gateway'::regnamespace)
                       AND relkind <> 'v') c";
    let before = database.psql(state).await;
    database.client.batch_execute(&default_schema()).await.unwrap();
    assert_eq!(database.psql(state).await, before);
}

#[tokio::test]
async fn a_writer_without_any_grant_on_our_schema_rings_the_bell_and_reads_nothing_of_it() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &[]).await;
    let user = Uuid::new_v4();
    let mut stream = gateway.connect(user).await;
    let role = format!("writer_{}", Uuid::new_v4().simple());
    database
        .psql(&format!(
            "CREATE ROLE {role}; GRANT INSERT ON notifications TO {role}; SET ROLE {role};
             INSERT INTO notifications (user_id, title, message)
             VALUES ('{user}', 'unprivileged', 'm')"
        ))
        .await;
    assert_eq!(stream.next().await.title(), "unprivileged");
    for forbidden in [
        "SELECT * FROM notify_gateway.event",
        "INSERT INTO notify_gateway.event (watch, user_id, row_id, event, data)
         VALUES (1, 'x', 'x', 'x', '{}')",
        "SELECT notify_gateway.watch('notifications')",
        "SELECT notify_gateway.watch_1()",
    ] {
        let output = database.try_psql(&format!("SET ROLE {role}; {forbidden}"), &[]).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("permission denied"), "{forbidden}: {said}");
    }
    database.psql(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn a_table_of_another_shape_is_left_alone_until_it_is_said_what_is_what() {
    let database = Database::empty().await;
    let create =
        "CREATE TABLE notifications (id bigserial PRIMARY KEY, recipient_id integer, verb text)";
    database.psql(create).await;
    let output = database.try_psql(&default_schema(), &[]).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("not watched yet"), "{said}");
    let triggers = "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'notifications'::regclass";
    assert_eq!(database.psql(triggers).await.trim(), "0");
    // A role that owns the table and nothing else, and is let in by the owner of the schema.
    database
        .psql(
            "CREATE ROLE crm LOGIN PASSWORD 'crm'; GRANT notify_gateway_owner TO crm;
               GRANT CREATE ON SCHEMA public TO crm;
               ALTER TABLE notifications OWNER TO crm",
        )
        .await;
    let crm = connect(&database.url.replace("bell:bell", "crm:crm")).await;
    let watch = "SELECT notify_gateway.watch('notifications', user_id => 'recipient_id',
                     data => '{\"id\": \"id\", \"title\": \"verb\"}')";
    crm.batch_execute(watch).await.unwrap();
    let gateway = TestGateway::start(&database.url, &[]).await;
    let mut stream = gateway.connect_as("42", None).await;
    assert_eq!(stream.next().await.name, "connected");
    crm.batch_execute("INSERT INTO notifications (recipient_id, verb) VALUES (42, 'liked')")
        .await
        .unwrap();
    assert_eq!(stream.next().await.json(), serde_json::json!({"id": 1, "title": "liked"}));
    crm.batch_execute("SELECT notify_gateway.unwatch('notifications')").await.unwrap();
    assert_eq!(database.psql(triggers).await.trim(), "0");
    // A table that is gone is known until it is taken off.
    crm.batch_execute(watch).await.unwrap();
    crm.batch_execute("DROP TABLE notifications").await.unwrap();
    let watched = "SELECT trigger FROM notify_gateway.watched";
    assert_eq!(database.psql(watched).await.trim(), "no table");
    let gone = "SELECT notify_gateway.unwatch(id => id) FROM notify_gateway.watched";
    crm.batch_execute(gone).await.unwrap();
    assert_eq!(database.psql(watched).await.trim(), "");
    // So is one whose trigger was dropped, or which another has taken the name of.
    crm.batch_execute(
        "CREATE TABLE alerts (id int, user_id int); SELECT notify_gateway.watch('alerts');
         DROP TABLE alerts; CREATE TABLE alerts (id int, user_id int)",
    )
    .await
    .unwrap();
    assert_eq!(database.psql(watched).await.trim(), "no trigger");
    crm.batch_execute("SELECT notify_gateway.unwatch('alerts')").await.unwrap();
    assert_eq!(database.psql(watched).await.trim(), "");
    for neither in ["", "'alerts', 1"] {
        let refused = crm.batch_execute(&format!("SELECT notify_gateway.unwatch({neither})")).await;
        let error = refused.unwrap_err();
        assert!(error.as_db_error().unwrap().message().contains("name a table"), "{neither}");
    }
}

/// `DROP SCHEMA … CASCADE` alone ends in a deadlock with a writer every few times.
#[tokio::test(flavor = "multi_thread")]
async fn it_is_taken_away_beside_writers_and_gateways_and_fails_neither() {
    let database = Database::empty().await;
    database
        .psql(
            "CREATE TABLE first (id serial, user_id int); CREATE TABLE last (id serial, user_id int);
             CREATE TABLE parts (id serial, user_id int) PARTITION BY RANGE (id);
             CREATE TABLE part PARTITION OF parts DEFAULT",
        )
        .await;
    let install = format!(
        "{}; SELECT notify_gateway.watch(t) FROM unnest('{{first,last,parts}}'::regclass[]) AS t",
        sql_without_table("notifications")
    );
    database.psql(&install).await;
    let gateway = TestGateway::start(&database.url, &["--sweep-interval", "50ms"]).await;
    let mut stream = gateway.connect_as("1", None).await;
    assert_eq!(stream.next().await.name, "connected");

    let is_over = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for rows in ["first", "last", "parts"] {
        let (session, is_over) = (database.session().await, is_over.clone());
        writers.push(tokio::spawn(async move {
            let insert = format!(
                "BEGIN; INSERT INTO {rows} (user_id) VALUES (1); INSERT INTO parts (user_id) VALUES (2); COMMIT"
            );
            while !is_over.load(Ordering::Relaxed) {
                session.batch_execute(&insert).await.unwrap();
            }
        }));
    }
    for _ in 0..20 {
        database.psql("SELECT notify_gateway.uninstall()").await;
        let left = "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal";
        assert_eq!(database.psql(left).await.trim(), "0");
        assert_eq!(database.psql("SELECT to_regnamespace('notify_gateway')").await.trim(), "");
        database.psql(&install).await;
    }
    is_over.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    // The caller's role and lock_timeout are as before.
    database
        .psql(
            "BEGIN; SET LOCAL lock_timeout = '7s'; CREATE TEMPORARY TABLE me AS SELECT current_user AS name;
             SELECT notify_gateway.uninstall();
             DO $$ BEGIN
               ASSERT current_user = (SELECT name FROM me) AND current_setting('lock_timeout') = '7s';
             END $$; COMMIT",
        )
        .await;
}

#[tokio::test]
async fn a_lock_on_the_table_is_not_waited_for_and_its_holder_is_named() {
    let database = Database::empty().await;
    database.client.batch_execute(&default_schema()).await.unwrap();
    database.psql("SELECT notify_gateway.unwatch('notifications')").await;
    let holder = database.session().await;
    holder.batch_execute("BEGIN; LOCK TABLE notifications IN ROW EXCLUSIVE MODE").await.unwrap();
    let pid: i32 = holder.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let output = database.try_psql(&default_schema(), &[]).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("is in use") && said.contains(&pid.to_string()), "{said}");
    // The same by the gateway's own command: one line, and exit code 1.
    let (code, said) = command(&["schema", "--apply", "--database-url", &database.owner_url]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("is in use") && said.contains(&pid.to_string()), "{said}");
    holder.batch_execute("ROLLBACK").await.unwrap();
    let (code, said) = command(&["schema", "--apply", "--database-url", &database.owner_url]);
    assert_eq!(code, 0, "{said}");
}

#[tokio::test]
async fn an_owner_who_is_no_superuser_and_may_make_no_role_is_told_what_is_less() {
    let database = Database::empty().await;
    let name = database.url.rsplit_once('/').unwrap().1;
    let role = format!("owner_{}", Uuid::new_v4().simple());
    database
        .psql(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'o'; CREATE SCHEMA app AUTHORIZATION {role}"
        ))
        .await;
    let url = database.url.replace("bell:bell", &format!("{role}:o"));
    let (code, said) = command(&["schema", "--apply", "--database-url", &url]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(&format!("GRANT CREATE ON DATABASE {name} TO {role}")), "{said}");

    database.psql(&format!("GRANT CREATE ON DATABASE {name} TO {role}")).await;
    let (code, said) = command(&["schema", "--apply", "--database-url", &url]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains(&format!("{role} owns the schema notify_gateway")), "{said}");
    let owner = connect(&url).await;
    owner
        .batch_execute(
            "CREATE TABLE app.alerts (id serial, user_id text, title text);
                        SELECT notify_gateway.watch('app.alerts')",
        )
        .await
        .unwrap();
    let gateway = TestGateway::start(&database.url, &[]).await;
    let mut stream = gateway.connect_as("ada", None).await;
    assert_eq!(stream.next().await.name, "connected");
    owner
        .batch_execute("INSERT INTO app.alerts (user_id, title) VALUES ('ada', 'mine')")
        .await
        .unwrap();
    assert_eq!(stream.titles(1).await.0, ["mine"]);
    drop(gateway);
    database.psql(&format!("DROP OWNED BY {role} CASCADE; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn a_table_of_ones_own_needs_no_table_notifications() {
    let database = Database::empty().await;
    let is_there = "SELECT to_regclass('public.notifications') IS NOT NULL";
    let sql = notify_gateway::schema::sql_without_table("notifications");
    database.client.batch_execute(&sql).await.unwrap();
    assert_eq!(database.psql(is_there).await.trim(), "f");
    database
        .psql("CREATE TABLE alerts (id int, user_id int); SELECT notify_gateway.watch('alerts')")
        .await;
    // An upgrade by somebody who does not know makes none either.
    database.client.batch_execute(&default_schema()).await.unwrap();
    assert_eq!(database.psql(is_there).await.trim(), "f");
    let watched = "SELECT relation, trigger FROM notify_gateway.watched";
    assert_eq!(database.psql(watched).await.trim(), "alerts|always");
}
