//! Migration tools see nothing of ours in a watched database, and go on working on it.

use std::{path::Path, process::Command};

use uuid::Uuid;

use crate::support::{Database, TestGateway, default_schema};

/// What lies beside these tests.
const TOOLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools");

/// Where `make deps` puts the tools.
const INSTALLED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/migration-tools");

/// Runs a tool on the database and returns what it says. Where it is not installed, it says
/// so and returns `None`.
fn run(tool: &str, arguments: &[&str], database: &Database) -> Option<String> {
    let program = Path::new(INSTALLED).join(tool);
    let is_node = tool.starts_with("node/");
    if !program.exists() {
        let is_expected = !is_node || Command::new("npm").arg("--version").output().is_ok();
        let is_ci = std::env::var_os("CI").is_some();
        assert!(!(is_ci && is_expected), "the migration tools are not installed");
        println!("SKIPPED: the migration tools are not installed (make deps)");
        return None;
    }
    let directory = if is_node { format!("{INSTALLED}/node") } else { TOOLS.to_owned() };
    let output = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .env("DATABASE_URL", &database.owner_url)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        // Prisma looks for engines that it does not use here.
        .env("PRISMA_QUERY_ENGINE_LIBRARY", "package.json")
        .env("PRISMA_SCHEMA_ENGINE_BINARY", "package.json")
        .env("CHECKPOINT_DISABLE", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tool} {arguments:?}: {said}{complaint}");
    Some(said)
}

/// A script of `tests/tools` in the tools' own Python; whether that is installed.
fn python(script: &str, arguments: &[&str], database: &Database) -> bool {
    let script = format!("{TOOLS}/{script}");
    run("bin/python", &[&[script.as_str()], arguments].concat(), database).is_some()
}

#[tokio::test]
async fn alembic_sees_no_drift_and_drops_and_makes_the_table_as_before() {
    let database = Database::empty().await;
    let alembic = |command: &str| python("alembic_tool.py", &[command], &database);
    if !alembic("create") {
        return;
    }
    alembic("check");
    database.client.batch_execute(&default_schema()).await.unwrap();
    alembic("check");
    let gateway = TestGateway::start(&database.url, &[]).await;
    let user = Uuid::new_v4();
    let mut stream = gateway.connect(user).await;
    database.insert(user, "watched").await;
    assert_eq!(stream.titles(1).await.0, ["watched"]);
    alembic("drop");
    alembic("create");
    alembic("check");
    database.insert(user, "not watched").await;
    database.psql(&default_schema()).await;
    database.insert(user, "watched again").await;
    assert_eq!(stream.titles(1).await.0, ["watched again"]);
}

#[tokio::test]
async fn django_sees_no_drift_and_migrates_the_table_as_before() {
    let database = Database::new().await;
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().to_str().unwrap();
    let django = |command: &str| python("django_tool.py", &[place, command], &database);
    if !django("make") {
        return;
    }
    database
        .psql(
            "SELECT notify_gateway.watch('bell_notification', user_id => 'recipient_id',
                 data => '{\"id\": \"id\", \"title\": \"verb\"}')",
        )
        .await;
    django("check");
    let gateway = TestGateway::start(&database.url, &[]).await;
    let mut stream = gateway.connect_as("42", None).await;
    assert_eq!(stream.next().await.name, "connected");
    django("insert");
    django("grow");
    django("check");
    django("insert");
    for id in [1, 2] {
        let event = stream.next_but_heartbeat().await;
        assert_eq!(event.json(), serde_json::json!({"id": id, "title": "liked"}));
    }
}

/// A table that a tool has made is watched; the tool then wants nothing, and it rings.
async fn sees_no_drift(create: impl Fn(&Database) -> Option<()>, check: impl Fn(&Database)) {
    let database = Database::empty().await;
    if create(&database).is_none() {
        return;
    }
    check(&database);
    database.client.batch_execute(&default_schema()).await.unwrap();
    check(&database);
    let gateway = TestGateway::start(&database.url, &[]).await;
    let user = Uuid::new_v4();
    let mut stream = gateway.connect(user).await;
    database.insert(user, "watched").await;
    assert_eq!(stream.titles(1).await.0, ["watched"]);
    check(&database);
}

#[tokio::test]
async fn drizzle_sees_no_drift() {
    let script = format!("{TOOLS}/drizzle_tool.cjs");
    let drizzle = |command, database: &Database| {
        run("node/node", &[&script, command], database).map(|_said| ())
    };
    sees_no_drift(
        |database| drizzle("create", database),
        |database| drizzle("check", database).unwrap(),
    )
    .await;
}

#[tokio::test]
async fn prisma_sees_no_drift() {
    let config = format!("--config={TOOLS}/prisma.config.cjs");
    let schema = format!("--schema={TOOLS}/schema.prisma");
    let push = |database: &Database| {
        let arguments = ["db", "push", "--skip-generate", &config, &schema];
        run("node/node_modules/.bin/prisma", &arguments, database)
    };
    sees_no_drift(
        |database| push(database).map(|said| assert!(said.contains("now in sync"), "{said}")),
        |database| {
            let said = push(database).unwrap();
            assert!(said.contains("already in sync"), "{said}");
        },
    )
    .await;
}
