//! Migration tools see nothing of ours in a watched database, and go on working on it.

use std::{path::Path, process::Command};

use uuid::Uuid;

use crate::support::{Database, TestGateway, default_schema};

/// Runs a script of `tests/tools` in the tools' own Python. Without that Python it says
/// so and returns `false`.
fn run(script: &str, arguments: &[&str], database: &Database) -> bool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("../target/migration-tools/bin/python");
    if !python.exists() {
        assert!(std::env::var_os("CI").is_none(), "the migration tools are not installed");
        println!("SKIPPED: the migration tools are not installed (make deps)");
        return false;
    }
    let output = Command::new(python)
        .arg(root.join("tests/tools").join(script))
        .args(arguments)
        .env("DATABASE_URL", &database.owner_url)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script} {arguments:?}: {said}");
    true
}

#[tokio::test]
async fn alembic_sees_no_drift_and_drops_and_makes_the_table_as_before() {
    let database = Database::empty().await;
    let alembic = |command: &str| run("alembic_tool.py", &[command], &database);
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
    let django = |command: &str| run("django_tool.py", &[place, command], &database);
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
