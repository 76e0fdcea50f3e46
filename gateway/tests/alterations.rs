//! Whatever becomes of a watched table: what can be written to a table like it that
//! is not watched can be written to it.

use fastrand::Rng;
use tokio_postgres::Client;

use crate::support::Database;

const COLUMNS: [&str; 6] = ["id", "user_id", "title", "message", "status", "metadata"];

/// A statement with `{t}` for the table. Most are writes.
fn statement(random: &mut Rng) -> String {
    let column = COLUMNS[random.usize(..COLUMNS.len())];
    let value = ["1", "'x'", "NULL", "'{}'", "'42'", "repeat('y', 9000)"][random.usize(..6)];
    match random.u8(..40) {
        0 => format!("ALTER TABLE {{t}} DROP COLUMN IF EXISTS {column} CASCADE"),
        1 => format!("ALTER TABLE {{t}} RENAME COLUMN {column} TO {column}_of_old"),
        2 => format!("ALTER TABLE {{t}} RENAME COLUMN {column}_of_old TO {column}"),
        3 => {
            let kind = ["text", "integer", "jsonb", "varchar(5)", "bytea"][random.usize(..5)];
            format!("ALTER TABLE {{t}} ALTER COLUMN {column} TYPE {kind} USING NULL")
        }
        4 => format!("ALTER TABLE {{t}} ADD COLUMN {column} text"),
        5 => format!("ALTER TABLE {{t}} ADD COLUMN more_{} integer DEFAULT 7", random.u8(..4)),
        6 => format!("ALTER TABLE {{t}} ALTER COLUMN {column} DROP NOT NULL"),
        7 => "ALTER TABLE {t} ADD COLUMN made text GENERATED ALWAYS AS ('made') STORED".to_owned(),
        8 => "ALTER TABLE {t} ENABLE ROW LEVEL SECURITY; ALTER TABLE {t} FORCE ROW LEVEL SECURITY"
            .to_owned(),
        9 => "ALTER TABLE {t} DISABLE ROW LEVEL SECURITY".to_owned(),
        10..20 => format!("UPDATE {{t}} SET {column} = {value}"),
        20..23 => "DELETE FROM {t} WHERE ctid = (SELECT ctid FROM {t} LIMIT 1)".to_owned(),
        23..25 => "BEGIN; INSERT INTO {t} DEFAULT VALUES; SAVEPOINT s; DELETE FROM {t}; \
                   ROLLBACK TO s; COMMIT"
            .to_owned(),
        25 => "TRUNCATE {t}".to_owned(),
        _ => format!("INSERT INTO {{t}} ({column}) VALUES ({value}), (DEFAULT)"),
    }
}

async fn run(client: &Client, statement: &str, table: &str) -> Result<(), String> {
    let outcome = client.batch_execute(&statement.replace("{t}", table)).await;
    if outcome.is_err() {
        client.batch_execute("ROLLBACK").await.unwrap();
    }
    // Names of tables and constraints differ.
    outcome.map_err(|error| error.code().map_or("none", |code| code.code()).to_owned())
}

#[tokio::test]
async fn what_succeeds_without_the_trigger_succeeds_with_it() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = Rng::with_seed(seed);
    let database = Database::new().await;
    let mut told = 0;
    for round in 0..12 {
        let (watched, plain) = (format!("watched_{round}"), format!("plain_{round}"));
        for table in [&watched, &plain] {
            database
                .psql(&format!(
                    "CREATE TABLE {table} (id serial, user_id integer DEFAULT 42, title text,
                         message varchar(9999), status text DEFAULT 'unread', metadata jsonb)"
                ))
                .await;
        }
        let how =
            ["", ", \"when\" => 'status IS NOT NULL'", ", data => '{\"a\": \"upper(title)\"}'"];
        let how = how[random.usize(..3)];
        database.psql(&format!("SELECT notify_gateway.watch('{watched}'{how})")).await;
        let client = database.session().await;
        let mut history = Vec::new();
        for _ in 0..60 {
            let statement = statement(&mut random);
            let expected = run(&client, &statement, &plain).await;
            let outcome = run(&client, &statement, &watched).await;
            history.push(format!("{statement}: {outcome:?}"));
            assert_eq!(outcome, expected, "{watched}{how}:\n{}", history.join("\n"));
        }
        let count =
            format!("SELECT (SELECT count(*) FROM {plain}) = (SELECT count(*) FROM {watched})");
        assert_eq!(database.psql(&count).await.trim(), "t", "{}", history.join("\n"));
        let events = "SELECT count(*) FROM notify_gateway.event";
        told = database.psql(events).await.trim().parse().unwrap();
    }
    assert!(told > 100, "{told} events");
    // What made none is said, and no value of a row with it.
    let problems =
        database.psql("SELECT DISTINCT sqlstate, message FROM notify_gateway.problem").await;
    assert!(problems.contains("42"), "{problems}");
    assert!(!problems.contains("yyy"), "{problems}");
}
