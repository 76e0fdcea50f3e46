//! `notify-gateway check`: what is broken is found, and what it prints mends it.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{
    support::{
        Authority, Database, KeyHost, Nginx, PgBouncer, SECRET, Signer, TestGateway, command,
        connect, default_schema, eventually, own_server, token_for,
    },
    tls::postgres_with_tls,
};

/// What `check --json` prints, and its exit code.
async fn check(url: &str, flags: &[&str]) -> (i32, Vec<Value>) {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_notify-gateway"))
        .env_clear()
        .args(["check", "--json", "--database-url", url, "--jwt-secret", SECRET])
        // The tests' tokens have no audience, and to require none is a warning.
        .args(["--jwt-required-claims", "sub"].iter().filter(|_| !flags.contains(&"--token")))
        .args(["--heartbeat", "2s"])
        .args(flags)
        .output()
        .await
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let findings = serde_json::from_str(&printed)
        .unwrap_or_else(|_| panic!("{printed}{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), findings)
}

/// Those that are not as they should be.
fn wrong(findings: &[Value]) -> Vec<&Value> {
    findings
        .iter()
        .filter(|finding| ["warning", "wrong"].contains(&finding["verdict"].as_str().unwrap()))
        .collect()
}

async fn is_healthy(url: &str) {
    let (code, findings) = check(url, &[]).await;
    assert_eq!(wrong(&findings), [&Value::Null; 0], "of a healthy set-up");
    assert_eq!(code, 0);
    for about in ["open_files", "keys", "reach", "schema", "role", "table", "queue", "listen"] {
        assert!(findings.iter().any(|finding| finding["about"] == about), "nothing about {about}");
    }
}

/// The one thing that is wrong, which is about `about` and says `words`.
async fn finds(url: &str, flags: &[&str], about: &str, words: &str) -> Value {
    let (code, findings) = check(url, flags).await;
    let wrong = wrong(&findings);
    let finding = wrong.iter().find(|finding| {
        finding["about"] == about && finding["what"].as_str().unwrap().contains(words)
    });
    let Some(finding) = finding else { panic!("no {about}: {words} in {wrong:#?}") };
    assert_eq!(code, i32::from(wrong.iter().any(|finding| finding["verdict"] == "wrong")));
    (*finding).clone()
}

/// Does what the finding says, word for word.
async fn mend(database: &Database, finding: &Value) {
    for line in finding["mend"].as_array().unwrap() {
        let line = line.as_str().unwrap();
        if line.starts_with("notify-gateway schema --apply") {
            database.client.batch_execute(&default_schema()).await.unwrap();
        } else {
            database.client.batch_execute(line).await.unwrap_or_else(|e| panic!("{line}: {e:?}"));
        }
    }
}

#[tokio::test]
async fn what_is_broken_in_the_database_is_found_and_mended_by_what_is_printed() {
    let database = Database::new().await;
    is_healthy(&database.url).await;
    let trigger = r#"TRIGGER "00_notify_gateway""#;
    let cases = [
        (format!("ALTER TABLE notifications DISABLE {trigger}"), "table", "disabled"),
        (format!("ALTER TABLE notifications ENABLE {trigger}"), "table", "logical replication"),
        (format!("ALTER TABLE notifications ENABLE REPLICA {trigger}"), "table", "replicated rows"),
        (format!("DROP {trigger} ON notifications"), "table", "its trigger is gone"),
        (
            "ALTER TABLE notifications ALTER COLUMN title TYPE varchar(9)".to_owned(),
            "table",
            "title got another type",
        ),
        ("DROP INDEX notify_gateway.event_user".to_owned(), "index", "event_user"),
        (
            "UPDATE pg_index SET indisvalid = false
             WHERE indexrelid = 'notify_gateway.event_row'::regclass"
                .to_owned(),
            "index",
            "event_row",
        ),
        (
            "REVOKE SELECT ON notify_gateway.event FROM notify_gateway".to_owned(),
            "role",
            "SELECT on event",
        ),
        (
            "CREATE OR REPLACE FUNCTION notify_gateway.canonical(given text) RETURNS text
             LANGUAGE sql AS 'SELECT given'"
                .to_owned(),
            "schema",
            "canonical",
        ),
        (
            // What a row could not be made of.
            "INSERT INTO notify_gateway.problem (watch, sqlstate) SELECT id, '22012'
             FROM notify_gateway.watch_entry"
                .to_owned(),
            "table",
            "22012",
        ),
        (
            // Two faults of one table: the lesser one does not hide the other.
            format!(
                "ALTER TABLE notifications ENABLE {trigger};
                 INSERT INTO notify_gateway.problem (watch, sqlstate) SELECT id, '22012'
                 FROM notify_gateway.watch_entry"
            ),
            "table",
            "22012",
        ),
        ("DROP SCHEMA notify_gateway CASCADE".to_owned(), "schema", "no schema"),
    ];
    for (damage, about, words) in cases {
        database.client.batch_execute(&damage).await.unwrap_or_else(|e| panic!("{damage}: {e:?}"));
        let finding = finds(&database.url, &[], about, words).await;
        mend(&database, &finding).await;
        is_healthy(&database.url).await;
    }
}

#[tokio::test]
async fn a_table_that_is_gone_and_a_column_that_is_gone_are_named() {
    let database = Database::new().await;
    let alerts = r#"CREATE SCHEMA "App"; CREATE TABLE "App"."Alerts" (id int, who int, "it's" text);
        SELECT notify_gateway.watch('"App"."Alerts"', user_id => 'who',
            data => '{"id": "id", "title": "\"it''s\""}', "when" => 'who > 0')"#;
    database.client.batch_execute(alerts).await.unwrap();
    is_healthy(&database.url).await;
    database.psql(r#"ALTER TABLE "App"."Alerts" RENAME "it's" TO subject"#).await;
    let finding = finds(&database.url, &[], "table", r#"it has no "it's" any more"#).await;
    let call = finding["mend"][0].as_str().unwrap().replace(r#"\\"it''s\\""#, "subject");
    database.client.batch_execute(&call).await.unwrap();
    is_healthy(&database.url).await;
    database.psql(r#"DROP TABLE "App"."Alerts""#).await;
    let finding = finds(&database.url, &[], "table", "no such table").await;
    mend(&database, &finding).await;
    is_healthy(&database.url).await;
    database.psql("SELECT notify_gateway.unwatch('notifications')").await;
    finds(&database.url, &[], "table", "no table is watched").await;
}

#[tokio::test]
async fn a_role_without_rights_and_a_backup_that_would_fail_are_found() {
    let server = own_server(&["fsync=off"]).await;
    let database = Database::new_on(&server).await;
    let roles = "CREATE ROLE loner LOGIN PASSWORD 'loner'; CREATE ROLE nightly_backup LOGIN;
                 CREATE ROLE \"Reporting\" LOGIN; GRANT SELECT ON notifications TO \"Reporting\";
                 CREATE ROLE half LOGIN; CREATE TABLE more (); GRANT SELECT ON more TO half";
    database.client.batch_execute(roles).await.unwrap();
    let url = database.url.replace("bell:bell", "loner:loner");
    let finding = finds(&url, &[], "role", "loner may not").await;
    mend(&database, &finding).await;
    let finding = finds(&url, &[], "backup", "nightly_backup fails").await;
    mend(&database, &finding).await;
    is_healthy(&url).await;
    // One that reads everything of the application's might be a backup as well.
    let backup = async |words: &str| {
        let (_, findings) = check(&url, &[]).await;
        findings.into_iter().find(|finding| {
            finding["about"] == "backup" && finding["what"].as_str().unwrap().contains(words)
        })
    };
    assert_eq!(backup("").await, None);
    database.psql("GRANT SELECT ON more TO \"Reporting\"").await;
    let finding = backup("\"Reporting\" fails").await.unwrap();
    assert_eq!(finding["verdict"], "note");
    mend(&database, &finding).await;
    assert_eq!(backup("").await, None);
}

#[tokio::test]
async fn who_holds_the_gateway_up_is_named() {
    let server = own_server(&["fsync=off", "max_prepared_transactions=2"]).await;
    let database = Database::new_on(&server).await;
    database.psql("GRANT pg_read_all_stats TO bell").await;
    let idler = connect(&database.owner_url).await;
    idler.batch_execute("BEGIN; SELECT 1").await.unwrap();
    let finding = finds(
        &database.url,
        &["--long-transaction", "0s"],
        "transactions",
        "has had a transaction open",
    )
    .await;
    mend(&database, &finding).await;
    eventually("it is gone", async || idler.is_closed()).await;
    database.client.batch_execute("BEGIN; SELECT 1; PREPARE TRANSACTION 'it''s'").await.unwrap();
    let flags = ["--long-transaction", "0s"];
    let finding =
        finds(&database.url, &flags, "transactions", "prepared transaction 'it''s'").await;
    mend(&database, &finding).await;
    // Its own transaction is as old as it is.
    is_healthy(&database.url).await;
}

/// Before version 17 the queue holds 8 GB, whatever the settings say.
#[tokio::test]
async fn who_holds_the_notification_queue_is_named() {
    let server = own_server(&["fsync=off"]).await;
    let version: u32 = connect(&server.url("postgres"))
        .await
        .query_one("SELECT current_setting('server_version_num')::int / 10000", &[])
        .await
        .unwrap()
        .get::<_, i32>(0)
        .unsigned_abs();
    drop(server);
    if version < 17 {
        println!("SKIPPED: PostgreSQL {version} has no small notification queue");
        return;
    }
    let server = own_server(&["fsync=off", "max_notify_queue_pages=64"]).await;
    let database = Database::new_on(&server).await;
    database.psql("GRANT pg_read_all_stats TO bell").await;
    let holder = connect(&server.url("postgres")).await;
    // One batch would be one transaction, in which LISTEN has not taken effect yet.
    holder.batch_execute("LISTEN anything").await.unwrap();
    holder.batch_execute("BEGIN; SELECT 1").await.unwrap();
    for (kilobytes, verdict) in [(100, "warning"), (250, "wrong")] {
        let fill = format!(
            "SELECT pg_notify('nobody', i || repeat('x', 7000)) FROM generate_series(1, {kilobytes} / 7) AS i"
        );
        database.psql(&fill).await;
        let finding = finds(&database.url, &[], "queue", "idle in transaction").await;
        assert_eq!(finding["verdict"], verdict, "{finding}");
        if verdict == "wrong" {
            mend(&database, &finding).await;
        }
    }
    eventually("it is gone", async || holder.is_closed()).await;
    // Somebody has to notify for the queue to be looked at again.
    database.psql("NOTIFY nobody").await;
    is_healthy(&database.url).await;
}

#[tokio::test]
async fn a_standby_is_told_from_a_primary() {
    let mut server = own_server(&["fsync=off"]).await;
    let database = Database::new_on(&server).await;
    server.stop().unwrap();
    std::fs::write(server.data_directory().join("standby.signal"), "").unwrap();
    let _standby = tokio::task::spawn_blocking(move || {
        server.start_server().unwrap();
        server
    })
    .await
    .unwrap();
    finds(&database.url, &[], "reach", "is a standby").await;
}

#[tokio::test]
async fn a_database_that_cannot_be_reached_is_explained_and_no_password_is_shown() {
    let database = Database::new().await;
    let (url, place) = (&database.url, database.url.rsplit_once('@').unwrap().1);
    let (address, name) = place.split_once('/').unwrap();
    let cases = [
        (url.replace(address, "127.0.0.1:1"), "nothing listens there"),
        (url.replace(address, "no-such-host.invalid:5432"), "the host's name is not known"),
        (url.replace(name, "nowhere"), "no such database"),
        (url.replace("bell:bell", "bell:S3cret"), "refuses the password"),
        (url.replace("bell:bell", "nobody:S3cret"), "refuses the password"),
    ];
    for (url, words) in cases {
        let finding = finds(&url, &[], "reach", words).await;
        assert!(!finding.to_string().contains("S3cret"), "{finding}");
    }
}

#[tokio::test]
async fn a_server_that_lets_nobody_in_is_told_from_one_that_is_not_there() {
    let server = own_server(&["fsync=off", "max_connections=9"]).await;
    let database = Database::new_on(&server).await;
    let url = &database.url;
    is_healthy(url).await;
    finds(&url.replace("bell:bell@", "bell@"), &[], "reach", "wants a password").await;
    finds(&format!("{url}?sslmode=require"), &[], "reach", "has no TLS").await;
    database.psql("ALTER ROLE bell NOLOGIN").await;
    finds(url, &[], "reach", "does not let the role in").await;
    database.psql("ALTER ROLE bell LOGIN").await;
    // Three of the nine are kept for superusers, one is the test's.
    let mut crowd = Vec::new();
    while let Ok((client, connection)) = tokio_postgres::connect(url, tokio_postgres::NoTls).await {
        tokio::spawn(connection);
        crowd.push(client);
    }
    finds(url, &[], "reach", "has no connection left").await;
    drop(crowd);
    eventually("there is room", async || {
        tokio_postgres::connect(url, tokio_postgres::NoTls).await.is_ok()
    })
    .await;
    is_healthy(url).await;
    // Something that accepts and says nothing, as a firewall or another service does.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let place = url.rsplit_once('@').unwrap().1.split_once('/').unwrap().0;
    finds(&url.replace(place, &address), &[], "reach", "gives no answer").await;
    let listen = url.replace(place, "127.0.0.1:1");
    finds(url, &["--listen-database-url", &listen], "listen", "nothing listens there").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_believed_is_told_and_one_that_is_is_not() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = postgres_with_tls(&authority, "hostssl all bell all scram-sha-256").await;
    let admin = connect(&server.url("postgres")).await;
    let role = "CREATE ROLE bell LOGIN PASSWORD 'bell' IN ROLE notify_gateway";
    admin.batch_execute(role).await.unwrap();
    let url = |root: String| {
        let place = format!("localhost:{}", server.port());
        format!("postgres://bell:bell@{place}/postgres?sslmode=verify-full&sslrootcert={root}")
    };
    finds(&url(stranger.root()), &[], "reach", "certificate is not accepted").await;
    is_healthy(&url(authority.root())).await;
}

#[tokio::test]
async fn keys_and_open_files_are_looked_at_without_a_database() {
    let nowhere = "postgres://bell:bell@127.0.0.1:1/app";
    let host = KeyHost::start().await;
    host.answer_with("503 Service Unavailable", "");
    let flags = ["--jwt-jwks-url", &host.url()];
    finds(nowhere, &flags, "key_set", "cannot be fetched").await;
    host.publish(&[Signer::all()[0].jwk()]);
    let (_, findings) = check(nowhere, &flags).await;
    let key_set = findings.iter().find(|finding| finding["about"] == "key_set").unwrap();
    assert_eq!(key_set["verdict"], "ok", "{key_set}");
    // Without an audience each token of the issuer opens a stream.
    finds(nowhere, &["--token", "rubbish"], "keys", "--jwt-audience").await;

    let with_files = async |files: &str| {
        let flags = "--database-url postgres://u@127.0.0.1:1/d --max-streams 2000 --json";
        let command = format!("ulimit -n {files}; exec \"$0\" check --jwt-secret \"$1\" {flags}");
        let output = tokio::process::Command::new("sh")
            .args(["-c", &command, env!("CARGO_BIN_EXE_notify-gateway"), SECRET])
            .output()
            .await
            .unwrap();
        let findings: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        findings.into_iter().find(|finding| finding["about"] == "open_files").unwrap()
    };
    let few = with_files("1000").await;
    assert_eq!(few["verdict"], "note", "{few}");
    let mend = few["mend"][1].as_str().unwrap();
    let files = mend.strip_prefix("ulimit -n ").unwrap().split(' ').next().unwrap();
    let enough = with_files(files).await;
    assert_eq!(enough["verdict"], "ok", "{enough}");
}

#[tokio::test]
async fn what_stands_in_the_place_of_the_stream_is_named() {
    let database = Database::new().await;
    let token = token_for(uuid::Uuid::new_v4(), Duration::from_secs(3600));
    let stream = |address: SocketAddr| format!("http://{address}/api/notifications/stream");
    let finds = async |url: &str, words: &str| {
        finds(&database.url, &["--token", &token, "--url", url], "stream", words).await
    };
    let off = TestGateway::start(&database.url, &["--enable-sse-notifications", "false"]).await;
    let finding = finds(&stream(off.address), "streaming is switched off").await;
    assert_eq!(finding["mend"][0], "ENABLE_SSE_NOTIFICATIONS=true");
    let full = TestGateway::start(&database.url, &["--max-streams", "1"]).await;
    let _only = full.connect(uuid::Uuid::new_v4()).await;
    finds(&stream(full.address), "closed by the gateway at once").await;
    let host = KeyHost::start().await;
    host.answer_with("200 OK", "<h1>the application</h1>");
    finds(&host.url(), "the application answers in the gateway's place").await;

    // As nginx asks where no version is set.
    let old = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = old.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut client, _) = old.accept().await.unwrap();
        let _asked = client.read(&mut [0; 4096]).await;
        let answer = b"HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
        client.write_all(answer).await.unwrap();
        let _closed = client.read(&mut [0]).await;
    });
    finds(&stream(address), "HTTP/1.0").await;
}

#[tokio::test]
async fn a_pooler_in_transaction_mode_is_found_and_left_as_it_was() {
    let database = Database::new().await;
    let Some(pooler) = PgBouncer::start(&database.url, "transaction", 3).await else {
        return;
    };
    let url = pooler.url(&database.url);
    let finding = finds(&url, &[], "listen", "a pooler in transaction mode").await;
    assert!(finding["mend"][0].as_str().unwrap().starts_with("LISTEN_DATABASE_URL="));
    let (code, findings) = check(&url, &["--listen-database-url", &database.url]).await;
    assert_eq!((code, wrong(&findings)), (0, vec![]));
}

#[tokio::test]
async fn a_token_is_told_what_is_the_matter_with_it() {
    let database = Database::new().await;
    let user = uuid::Uuid::new_v4();
    let token = token_for(user, Duration::from_secs(3600));
    let (_, findings) = check(&database.url, &["--token", &token]).await;
    let found = findings.iter().find(|finding| finding["about"] == "token").unwrap();
    assert!(found["what"].as_str().unwrap().contains(&user.to_string()), "{found}");

    let expired = token_for(user, Duration::ZERO);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let finding = finds(
        &database.url,
        &["--token", &expired, "--jwt-leeway", "0s"],
        "token",
        "the token has expired",
    )
    .await;
    assert!(finding["what"].as_str().unwrap().contains("exp 20"), "{finding}");
    assert!(!finding.to_string().contains(&expired));
    let revoke = format!(
        "INSERT INTO notify_gateway.revocation (user_id, before) VALUES ('{user}', 'infinity')"
    );
    database.psql(&revoke).await;
    finds(&database.url, &["--token", &token], "token", "revoked").await;
    database.psql("DELETE FROM notify_gateway.revocation").await;
    let audience = ["--token", &token, "--jwt-audience", "app"];
    finds(&database.url, &audience, "token", "no audience").await;
    let (head, signature) = token.rsplit_once('.').unwrap();
    let forged = format!("{head}.{}", signature.chars().rev().collect::<String>());
    finds(&database.url, &["--token", &forged], "token", "another key has signed it").await;
    finds(&database.url, &["--token", "rubbish"], "token", "not a JWT").await;
}

/// A proxy that passes on what comes first, in so many reads, and keeps the rest.
async fn holding_back(to: SocketAddr, reads: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut upstream = TcpStream::connect(to).await.unwrap();
            tokio::spawn(async move {
                let mut bytes = vec![0; 16 * 1024];
                let asked = client.read(&mut bytes).await.unwrap();
                upstream.write_all(&bytes[..asked]).await.unwrap();
                for _ in 0..reads {
                    // The head and the first event come in one or two packets.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    let read = upstream.read(&mut bytes).await.unwrap();
                    client.write_all(&bytes[..read]).await.unwrap();
                }
                // Until the client has had enough.
                let _closed = client.read(&mut bytes).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn a_proxy_that_holds_the_stream_back_is_found() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &["--heartbeat", "2s"]).await;
    let token = token_for(uuid::Uuid::new_v4(), Duration::from_secs(3600));
    let page = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let stream = |address| format!("http://{address}/api/notifications/stream");
    let Some(nginx) = Nginx::start(gateway.address, page).await else { return };
    let url = stream(nginx.address);
    let (_, findings) = check(&database.url, &["--token", &token, "--url", &url]).await;
    let found = findings.iter().find(|finding| finding["about"] == "stream").unwrap();
    assert!(found["what"].as_str().unwrap().contains("streams: the head"), "{found}");
    // Without a token, and elsewhere.
    let (code, findings) = check(&database.url, &["--url", &url]).await;
    assert_eq!((code, wrong(&findings)), (0, vec![]));
    let elsewhere = format!("{url}/nowhere");
    finds(&database.url, &["--token", &token, "--url", &elsewhere], "stream", "not reach").await;
    for (status, words) in
        [("503 Service Unavailable", "not reach"), ("404 Not Found", "knows no such path")]
    {
        let host = KeyHost::start().await;
        host.answer_with(status, "<h1>the proxy's own page</h1>");
        finds(&database.url, &["--token", &token, "--url", &host.url()], "stream", words).await;
    }

    let compress = |config: &str| {
        let gzip = "proxy_buffering off; gzip on; gzip_types text/event-stream; gzip_min_length 0; \
                    gzip_proxied any;";
        config.replace("proxy_buffering off;", gzip)
    };
    let Some(nginx) = Nginx::start_but(gateway.address, page, compress).await else { return };
    let url = stream(nginx.address);
    finds(&database.url, &["--token", &token, "--url", &url], "stream", "gzip").await;

    for (bytes, words) in [(0, "gives no answer"), (1, "is silent for")] {
        let url = stream(holding_back(gateway.address, bytes).await);
        finds(&database.url, &["--token", &token, "--url", &url], "stream", words).await;
    }
    let address = gateway.address;
    gateway.stop();
    gateway.ended().await.unwrap();
    let Some(nginx) = Nginx::start(address, page).await else { return };
    let url = stream(nginx.address);
    finds(&database.url, &["--token", &token, "--url", &url], "stream", "stands in").await;
}

#[tokio::test]
async fn a_container_can_ask_whether_the_gateway_lives() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &[]).await;
    let asked = gateway.admin.to_string();
    let ask = || {
        let asked = asked.clone();
        tokio::task::spawn_blocking(move || command(&["health", "--admin-bind", &asked]))
    };
    assert_eq!(ask().await.unwrap(), (0, String::new()));
    gateway.stop();
    gateway.ended().await.unwrap();
    let (code, said) = ask().await.unwrap();
    assert!(code == 1 && said.contains("does not answer"), "{code}: {said}");
}

#[tokio::test]
async fn a_setting_that_is_wrong_is_a_usage_error() {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_notify-gateway"))
        .env_clear()
        .args(["check", "--jwt-secret", SECRET])
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--database-url"));
}
