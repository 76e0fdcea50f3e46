//! Dumps, and what they are restored into.

use std::{path::Path, process::Command};

use uuid::Uuid;

use crate::support::{Database, TestGateway, command, default_schema, eventually, own_server};

/// Whether the pg_dump beside the server is new enough for it; if not, says so.
fn pg_dump_fits() -> bool {
    let binaries = notify_gateway::throwaway::find_binaries().unwrap();
    let major = |program: &str| -> Option<u32> {
        let output = Command::new(binaries.join(program)).arg("--version").output().ok()?;
        let said = String::from_utf8(output.stdout).ok()?;
        let version = said.split_whitespace().nth(2)?;
        version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    let (client, server) = (major("pg_dump"), major("postgres").unwrap());
    if client >= Some(server) {
        return true;
    }
    let why = format!("pg_dump is of version {client:?}, too old for PostgreSQL {server}");
    assert!(std::env::var_os("CI").is_none(), "{why}");
    println!("SKIPPED: {why}");
    false
}

/// pg_dump, as a role that may read everything; panics when it complains.
fn dump(database: &Database, into: &Path, flags: &[&str]) {
    let binaries = notify_gateway::throwaway::find_binaries().unwrap();
    let url = database.url.replace("bell:bell", "backup:backup");
    let output = Command::new(binaries.join("pg_dump"))
        .args(["--file", into.to_str().unwrap(), "--dbname", &url])
        .args(flags)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// psql, as a superuser; what it complains of.
fn restore(from: &Path, url: &str) -> Vec<String> {
    let binaries = notify_gateway::throwaway::find_binaries().unwrap();
    let output = Command::new(binaries.join("psql"))
        .args(["--no-psqlrc", "--quiet", "--file", from.to_str().unwrap(), url])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    said.lines().filter(|line| line.contains("ERROR")).map(ToOwned::to_owned).collect()
}

/// A database with rows of `user` and a role that makes backups, in a cluster that has seen
/// many more transactions than a new one.
async fn database_with_rows(server: &notify_gateway::throwaway::Postgres, user: Uuid) -> Database {
    let database = Database::new_on(server).await;
    database
        .psql(
            "DO $$ BEGIN FOR i IN 1..3000 LOOP
                 PERFORM pg_current_xact_id(); COMMIT;
             END LOOP; END $$",
        )
        .await;
    // pg_read_all_data, which is one of 14's.
    database
        .psql(
            "CREATE ROLE backup LOGIN PASSWORD 'backup';
             GRANT USAGE ON SCHEMA public, notify_gateway TO backup;
             GRANT SELECT ON ALL TABLES IN SCHEMA public, notify_gateway TO backup;
             GRANT SELECT ON ALL SEQUENCES IN SCHEMA public, notify_gateway TO backup",
        )
        .await;
    for title in ["one", "two"] {
        database.insert(user, title).await;
    }
    database
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_restored_into_another_cluster_delivers_what_is_new_and_nothing_of_the_old() {
    if !pg_dump_fits() {
        return;
    }
    let (old, new) = (own_server(&["fsync=off"]).await, own_server(&["fsync=off"]).await);
    let user = Uuid::new_v4();
    let database = database_with_rows(&old, user).await;
    let gateway = TestGateway::start(&database.url, &["--sweep-interval", "100ms"]).await;
    let cursor = gateway.cursor(user).await;
    database.insert(user, "three").await;
    drop(gateway);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("dump.sql");
    dump(&database, &file, &[]);

    let copy = Database::empty_on(&new).await;
    let roles = "CREATE ROLE backup; CREATE ROLE notify_gateway_owner";
    copy.psql(roles).await;
    assert_eq!(restore(&file, &copy.owner_url), [""; 0]);
    let gateway = TestGateway::start(&copy.url, &["--sweep-interval", "100ms"]).await;
    let mut resumed = gateway.resume(user, &cursor).await;
    let event = resumed.next_but_heartbeat().await;
    assert_eq!(event.name, "resync");
    assert_eq!(event.json()["reason"], "foreign_cursor");
    let mut stream = gateway.connect(user).await;
    eventually("what came with the dump is gone", async || {
        let rest = "SELECT count(*) FROM notify_gateway.event";
        copy.psql(rest).await.trim() == "0"
    })
    .await;
    copy.insert(user, "new").await;
    let cursor = stream.titles(1).await;
    assert_eq!(cursor.0, ["new"]);
    assert_eq!(resumed.titles(1).await.0, ["new"]);
    let beside_a_list = copy.psql("SELECT notify_gateway.cursor()").await;
    copy.insert(user, "newer").await;
    for stream in [&mut stream, &mut resumed] {
        assert_eq!(stream.titles(1).await.0, ["newer"]);
    }
    for id in [cursor.1.as_str(), beside_a_list.trim()] {
        assert_eq!(gateway.resume(user, id).await.titles(1).await.0, ["newer"]);
    }

    gateway.ready().await;
    // What is new stays when the schema is applied, and what was old goes by that as well.
    let again = "UPDATE notify_gateway.event SET xact_id = '1000000' WHERE data LIKE '%\"new\"%'";
    copy.psql(again).await;
    let (code, said) = command(&["schema", "--apply", "--database-url", &copy.owner_url]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(gateway.resume(user, &cursor.1).await.titles(1).await.0, ["newer"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_of_the_applications_schema_alone_brings_its_tables_and_rows() {
    if !pg_dump_fits() {
        return;
    }
    let server = own_server(&[]).await;
    let user = Uuid::new_v4();
    let database = database_with_rows(&server, user).await;
    let directory = tempfile::tempdir().unwrap();
    for (flags, complaints) in [
        (["--schema=public", "--clean", "--if-exists"], 2),
        (["--table=notifications", "--clean", "--if-exists"], 2),
    ] {
        let file = directory.path().join("dump.sql");
        dump(&database, &file, &flags);
        let copy = Database::empty_on(&server).await;
        let said = restore(&file, &copy.owner_url);
        // CREATE TRIGGER, and ALTER TABLE … ENABLE ALWAYS TRIGGER.
        assert_eq!(said.len(), complaints, "{said:?}");
        assert!(said.iter().all(|line| line.contains("notify_gateway")), "{said:?}");
        assert_eq!(copy.psql("SELECT count(*) FROM notifications").await.trim(), "2");
        // And with our schema there it rings.
        copy.client.batch_execute(&default_schema()).await.unwrap();
        let gateway = TestGateway::start(&copy.url, &[]).await;
        let mut stream = gateway.connect(user).await;
        copy.insert(user, "three").await;
        assert_eq!(stream.titles(1).await.0, ["three"]);
    }
}
