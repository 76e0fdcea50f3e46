//! Other roles in the same database cannot make the gateway do anything for them.

use serde_json::json;
use uuid::Uuid;

use crate::support::{Database, TestGateway, connect};

/// What any role may do that may create in `public`: functions and operators that match the
/// gateway's arguments better than those of `pg_catalog`, and note who runs them.
const TRAPS: &str = "
    CREATE TABLE public.caught (role name NOT NULL);
    GRANT INSERT ON public.caught TO PUBLIC;
    CREATE FUNCTION public.spring() RETURNS void LANGUAGE sql VOLATILE AS
        $$ INSERT INTO public.caught VALUES (current_user) $$;

    CREATE FUNCTION public.pg_column_size(jsonb) RETURNS integer LANGUAGE sql VOLATILE AS
        $$ SELECT public.spring(); SELECT 1 $$;
    CREATE FUNCTION public.octet_length(text) RETURNS integer LANGUAGE sql VOLATILE AS
        $$ SELECT public.spring(); SELECT 1 $$;
    CREATE FUNCTION public.date_part(text, timestamptz) RETURNS double precision
        LANGUAGE sql VOLATILE AS $$ SELECT public.spring(); SELECT 1.0::double precision $$;
    CREATE FUNCTION public.pg_notify(text, text) RETURNS void LANGUAGE sql VOLATILE AS
        $$ SELECT public.spring() $$;
    CREATE FUNCTION public.to_regclass(text) RETURNS regclass LANGUAGE sql VOLATILE AS
        $$ SELECT public.spring(); SELECT NULL::regclass $$;
    CREATE FUNCTION public.trap(bigint, bigint) RETURNS boolean LANGUAGE sql VOLATILE AS
        $$ SELECT public.spring(); SELECT true $$;
    CREATE OPERATOR public.>= (FUNCTION = public.trap, LEFTARG = bigint, RIGHTARG = bigint);
    CREATE OPERATOR public.<= (FUNCTION = public.trap, LEFTARG = bigint, RIGHTARG = bigint);
    CREATE FUNCTION public.trap(uuid, uuid) RETURNS boolean LANGUAGE sql VOLATILE AS
        $$ SELECT public.spring(); SELECT true $$;
    CREATE OPERATOR public.= (FUNCTION = public.trap, LEFTARG = uuid, RIGHTARG = uuid);
    CREATE FUNCTION public.trap(xid8, xid8) RETURNS boolean LANGUAGE sql VOLATILE AS
        $$ SELECT public.spring(); SELECT true $$;
    CREATE OPERATOR public.>= (FUNCTION = public.trap, LEFTARG = xid8, RIGHTARG = xid8);";

#[tokio::test]
async fn what_a_neighbour_puts_on_the_search_path_never_runs_as_the_gateway() {
    let database = Database::new().await;
    database.psql("CREATE ROLE mallory LOGIN PASSWORD 'mallory'").await;
    database.psql("GRANT CREATE ON SCHEMA public TO mallory").await;
    let mallory = connect(&database.url.replace("bell:bell", "mallory:mallory")).await;
    mallory.batch_execute(TRAPS).await.unwrap();
    let name = database.url.rsplit_once('/').unwrap().1;
    // The worst that a DBA can have set.
    database.psql(&format!("ALTER DATABASE {name} SET search_path = public, pg_catalog")).await;

    let gateway = TestGateway::start(&database.url, &[]).await;
    let user = Uuid::new_v4();
    let cursor = gateway.cursor(user).await;
    // One that a notification carries, one too large for it, one that is replayed.
    let mut stream = gateway.connect(user).await;
    let large = "x".repeat(9000);
    database.insert(user, "small").await;
    database.insert(user, &large).await;
    assert_eq!(stream.titles(2).await.0, ["small", large.as_str()]);
    let mut resumed = gateway.resume(user, &cursor).await;
    assert_eq!(resumed.titles(2).await.0, ["small", large.as_str()]);

    let caught = database.psql("SELECT count(*) FROM public.caught WHERE role = 'bell'").await;
    assert_eq!(caught.trim(), "0", "the neighbour's code ran as the gateway");
}

#[tokio::test]
async fn defaults_that_a_dba_has_set_for_the_role_change_nothing() {
    let database = Database::new().await;
    let name = database.url.rsplit_once('/').unwrap().1;
    for setting in [
        "default_transaction_isolation = 'serializable'",
        "default_transaction_read_only = on",
        "statement_timeout = '250ms'",
        "synchronous_commit = off",
        "enable_indexscan = off",
    ] {
        database.psql(&format!("ALTER ROLE bell IN DATABASE {name} SET {setting}")).await;
    }
    let gateway = TestGateway::start(&database.url, &[]).await;
    let user = Uuid::new_v4();
    let cursor = gateway.cursor(user).await;
    database.insert(user, "missed").await;
    let mut resumed = gateway.resume(user, &cursor).await;
    assert_eq!(resumed.titles(1).await.0, ["missed"]);
}

/// What a writer can do to code that runs as its owner: operators and functions of its own, found
/// before those of `pg_catalog`, for every type that the trigger handles.
fn writers_traps() -> String {
    let mut sql = String::from(
        "CREATE SCHEMA trap; SET search_path = trap, pg_catalog;
         CREATE TABLE trap.caught (role name NOT NULL);
         GRANT USAGE ON SCHEMA trap TO PUBLIC; GRANT INSERT ON trap.caught TO PUBLIC;
         CREATE FUNCTION trap.spring() RETURNS void LANGUAGE sql VOLATILE AS
             $$ INSERT INTO trap.caught VALUES (current_user) $$;",
    );
    for kind in [
        "text",
        "uuid",
        "jsonb",
        "timestamptz",
        "integer",
        "bigint",
        "xid8",
        "record",
        "boolean",
        "\"char\"",
        "oid",
        "regtype",
    ] {
        sql += &format!(
            "CREATE FUNCTION trap.compare({kind}, {kind}) RETURNS boolean LANGUAGE plpgsql AS
                 $$ BEGIN PERFORM trap.spring(); RETURN true; END $$;\n"
        );
        for operator in ["=", "<>", "<", ">", "<=", ">=", "~", "~*", "*=", "||"] {
            sql += &format!(
                "CREATE OPERATOR trap.{operator} (FUNCTION = trap.compare, LEFTARG = {kind}, RIGHTARG = {kind});\n"
            );
        }
    }
    for (name, arguments) in [
        ("to_json", "text"),
        ("to_json", "uuid"),
        ("to_json", "jsonb"),
        ("current_setting", "text, boolean"),
        ("set_config", "text, text, boolean"),
        ("pg_notify", "text, text"),
        ("octet_length", "text"),
        ("replace", "text, text, text"),
        ("timezone", "text, timestamptz"),
        ("to_char", "timestamp, text"),
        ("date_part", "text, timestamptz"),
        ("canonical", "text"),
    ] {
        sql += &format!(
            "CREATE FUNCTION trap.{name}({arguments}) RETURNS text LANGUAGE plpgsql AS
                 $$ BEGIN PERFORM trap.spring(); RETURN 'trap'; END $$;\n"
        );
    }
    sql
}

/// A role that may log in and make schemas of its own, and the address by which it does.
async fn neighbour(database: &Database) -> (String, String) {
    let name = database.url.rsplit_once('/').unwrap().1;
    let role = format!("neighbour_{}", Uuid::new_v4().simple());
    let create =
        format!("CREATE ROLE {role} LOGIN PASSWORD 'w'; GRANT CREATE ON DATABASE {name} TO {role}");
    database.psql(&create).await;
    let url = database.url.replace("bell:bell", &format!("{role}:w"));
    (role, url)
}

#[tokio::test]
async fn what_a_writer_puts_on_its_search_path_never_runs_as_the_owner_of_the_trigger() {
    let database = Database::new().await;
    let (role, url) = neighbour(&database).await;
    database
        .psql(&format!(
            "GRANT SELECT, INSERT, UPDATE, DELETE ON notifications TO {role};
             CREATE TABLE posts (id int, author text, at timestamptz, body jsonb, is_public boolean);
             GRANT SELECT, INSERT, UPDATE, DELETE ON posts TO {role};
             SELECT notify_gateway.watch('posts', user_id => 'author', \"when\" => 'is_public',
                 data => '{{\"id\": \"id\", \"body\": \"body\", \"at\": \"at\", \"title\": \"author || id\"}}')"
        ))
        .await;
    let gateway = TestGateway::start(&database.url, &[]).await;
    let user = Uuid::new_v4();
    let mut stream = gateway.connect(user).await;
    let writer = connect(&url).await;
    writer.batch_execute(&writers_traps()).await.unwrap();
    writer
        .batch_execute(&format!(
            "SET search_path = trap, pg_catalog, public;
             INSERT INTO public.notifications (user_id, title, message) VALUES ('{user}', 't', 'm');
             UPDATE public.notifications SET status = 'read';
             DELETE FROM public.notifications;
             INSERT INTO public.posts VALUES (1, '{user}', now(), '{{}}', true);
             UPDATE public.posts SET body = '{{\"a\": 1}}';
             DELETE FROM public.posts"
        ))
        .await
        .unwrap();
    for name in ["notification", "updated", "deleted", "notification", "updated", "deleted"] {
        assert_eq!(stream.next_but_heartbeat().await.name, name);
    }
    // What the trigger does with a column that has got another type.
    database.psql("ALTER TABLE notifications ALTER status TYPE varchar(20)").await;
    writer
        .batch_execute(&format!(
            "INSERT INTO public.notifications (user_id, title, message) VALUES ('{user}', 't', 'm');
             UPDATE public.notifications SET status = 'read'"
        ))
        .await
        .unwrap();
    for name in ["notification", "updated"] {
        let event = stream.next_but_heartbeat().await;
        assert_eq!((event.name.as_str(), event.title().as_str()), (name, "t"));
    }
    let caught =
        database.psql(&format!("SELECT count(*) FROM trap.caught WHERE role <> '{role}'")).await;
    assert_eq!(caught.trim(), "0", "the writer's code ran as another role");
}

#[tokio::test]
async fn the_code_of_a_type_that_a_column_gets_never_runs_as_the_owner_of_the_trigger() {
    let database = Database::new().await;
    let (role, tenant) = neighbour(&database).await;
    let [early, late] = [connect(&tenant).await, connect(&tenant).await];
    early
        .batch_execute(
            "CREATE SCHEMA own;
             CREATE TABLE own.caught (role name NOT NULL, at text);
             GRANT USAGE ON SCHEMA own TO PUBLIC; GRANT INSERT ON own.caught TO PUBLIC;
             CREATE DOMAIN own.plain AS integer;
             CREATE TABLE own.alerts (id integer, user_id text, title text, body jsonb,
                 words json, at timestamptz, many text[], short varchar, level own.plain)",
        )
        .await
        .unwrap();
    for data in ["NULL", "'{\"id\": \"id\", \"title\": \"title\", \"of\": \"''constant''\"}'"] {
        database.psql(&format!("SELECT notify_gateway.watch('own.alerts', data => {data})")).await;
        early
            .batch_execute("INSERT INTO own.alerts (id, user_id) VALUES (0, 'ada')")
            .await
            .unwrap();
        let made = "SELECT data FROM notify_gateway.event ORDER BY seq DESC LIMIT 1";
        assert!(database.psql(made).await.contains("\"id\" : 0"));
    }
    database.psql("SELECT notify_gateway.watch('own.alerts')").await;
    let gateway = TestGateway::start(&database.url, &[]).await;
    let mut stream = gateway.connect_as("ada", None).await;
    assert_eq!(stream.next().await.name, "connected");
    early
        .batch_execute(
            "INSERT INTO own.alerts (id, user_id, title, level) VALUES (1, 'ada', 'before', 7);
             CREATE TYPE own.evil AS (x text);
             CREATE FUNCTION own.spring(at text) RETURNS void LANGUAGE sql AS
                 $$ INSERT INTO own.caught VALUES (current_user, at) $$;
             DO $do$ DECLARE t text; BEGIN
                 FOREACH t IN ARRAY '{json,jsonb,text,timestamptz,int4,varchar}'::text[] LOOP
                     EXECUTE format('CREATE FUNCTION own.to_%1$s(own.evil) RETURNS %1$s LANGUAGE plpgsql AS
                         $$ BEGIN PERFORM own.spring(%1$L); RETURN NULL; END $$;
                         CREATE CAST (own.evil AS %1$s) WITH FUNCTION own.to_%1$s AS IMPLICIT', t);
                 END LOOP;
             END $do$;
             CREATE FUNCTION own.check(text) RETURNS boolean LANGUAGE plpgsql AS
                 $$ BEGIN PERFORM own.spring('domain'); RETURN true; END $$;
             CREATE DOMAIN own.guarded AS text CHECK (own.check(VALUE));",
        )
        .await
        .unwrap();
    assert_eq!(stream.next_but_heartbeat().await.json()["level"], 7);
    // The function keeps what it was told of a type when only its constraint is new.
    early
        .batch_execute(
            "ALTER DOMAIN own.plain ADD CHECK (own.check(VALUE::text));
             ALTER TABLE own.alerts ALTER short TYPE own.guarded;
             INSERT INTO own.alerts (id, user_id, short, level) VALUES (2, 'ada', 'guarded', 7)",
        )
        .await
        .unwrap();
    let event = stream.next_but_heartbeat().await.json();
    assert_eq!((&event["short"], &event["level"]), (&json!("guarded"), &json!(7)));
    for column in ["title", "body", "words", "at", "short", "level", "id", "many"] {
        let array = if column == "many" { "[]" } else { "" };
        early
            .batch_execute(&format!(
                "ALTER TABLE own.alerts ALTER {column} TYPE own.evil{array} USING NULL"
            ))
            .await
            .unwrap();
        for (session, id) in [(&early, "early"), (&late, "late")] {
            let value = if column == "many" { "ARRAY[ROW('x')::own.evil]" } else { "ROW('x')" };
            session
                .batch_execute(&format!(
                    "INSERT INTO own.alerts (user_id, {column}) VALUES ('ada', {value});
                     UPDATE own.alerts SET user_id = '{id}' WHERE user_id = 'ada';
                     DELETE FROM own.alerts"
                ))
                .await
                .unwrap();
        }
    }
    let caught = database
        .psql(&format!("SELECT DISTINCT role, at FROM own.caught WHERE role <> '{role}'"))
        .await;
    assert_eq!(caught.trim(), "", "the type's owner's code ran as another role");
    assert_ne!(database.psql("SELECT count(*) FROM own.caught").await.trim(), "0");
    // They are told of all the same: by the text.
    let mut last = stream.next_but_heartbeat().await;
    while last.name != "notification" || last.json()["many"].is_null() {
        last = stream.next_but_heartbeat().await;
    }
    assert_eq!(last.json()["many"], "{(x)}");
}
