//! Other roles in the same database cannot make the gateway do anything for them.

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
    for kind in
        ["text", "uuid", "jsonb", "timestamptz", "integer", "bigint", "xid8", "record", "boolean"]
    {
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

#[tokio::test]
async fn what_a_writer_puts_on_its_search_path_never_runs_as_the_owner_of_the_trigger() {
    let database = Database::new().await;
    let name = database.url.rsplit_once('/').unwrap().1;
    let role = format!("writer_{}", Uuid::new_v4().simple());
    database
        .psql(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'w'; GRANT CREATE ON DATABASE {name} TO {role};
             GRANT SELECT, INSERT, UPDATE, DELETE ON notifications TO {role};
             CREATE TABLE posts (id int, author text, at timestamptz, body jsonb, is_public boolean);
             GRANT SELECT, INSERT, UPDATE, DELETE ON posts TO {role};
             SELECT notify_gateway.watch('posts', user_id => 'author', \"when\" => 'is_public',
                 data => '{{\"id\": \"id\", \"body\": \"body\", \"at\": \"at\", \"title\": \"author || id\"}}')"
        ))
        .await;
    let gateway = TestGateway::start(&database.url, &[]).await;
    let user = Uuid::new_v4();
    let mut stream = gateway.connect(user).await;
    let writer = connect(&database.url.replace("bell:bell", &format!("{role}:w"))).await;
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
    let caught =
        database.psql(&format!("SELECT count(*) FROM trap.caught WHERE role <> '{role}'")).await;
    assert_eq!(caught.trim(), "0", "the writer's code ran as another role");
}
