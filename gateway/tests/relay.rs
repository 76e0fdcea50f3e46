//! One gateway listens to Postgres and tells the others over NATS; whatever becomes of it, of
//! NATS or of the way there, every row comes once.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use notify_gateway::{http::STREAM_PATH, throwaway::Postgres};
use tokio::process::Command;
use uuid::Uuid;

use crate::support::{
    Authority, Database, EventSource, Nats, Network, PgBouncer, Process, SECRET, TestGateway,
    eventually, request, token,
};

/// Gateways with a relay, ready.
async fn gateways<const N: usize>(database: &Database, relay: &str) -> [TestGateway; N] {
    let mut gateways = Vec::new();
    for _ in 0..N {
        let flags = ["--relay", relay, "--heartbeat", "200ms"];
        gateways.push(TestGateway::start_unready(&database.url, &flags).await);
    }
    for gateway in &gateways {
        gateway.ready().await;
    }
    gateways.try_into().ok().unwrap()
}

async fn is_source(gateway: &TestGateway) -> bool {
    gateway.metric("notify_gateway_relay_lead").await > 0.5
}

/// Inserts rows, one by one, while something else happens.
async fn insert_all(database: &Database, user: Uuid, titles: &[String]) {
    for title in titles {
        database.insert(user, title).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn titles(what: &str, n: usize) -> Vec<String> {
    (0..n).map(|i| format!("{what} {i}")).collect()
}

/// The rows that came, and that nothing comes twice behind them.
async fn came_once(stream: &mut EventSource, titles: &[String]) {
    assert_eq!(stream.titles(titles.len()).await.0, titles);
    assert!(stream.is_quiet_for(Duration::from_millis(300)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_gateway_listens_and_the_rows_come_to_the_streams_of_all() {
    for binary in Nats::binaries() {
        let nats = Nats::start(binary, "").await;
        let database = Database::new().await;
        let gateways: [_; 3] = gateways(&database, &nats.url()).await;
        eventually("one of them listens", async || {
            let mut listening = 0.0;
            for gateway in &gateways {
                listening += gateway.metric("notify_gateway_listen_up").await;
            }
            (listening - 1.0_f64).abs() < 0.1
        })
        .await;
        let (ada, bob) = (Uuid::new_v4(), Uuid::new_v4());
        let mut streams = Vec::new();
        for gateway in &gateways {
            streams.push((gateway.connect(ada).await, gateway.connect(bob).await));
        }
        let rows = [titles("for Ada", 5), titles("for Bob", 5)];
        tokio::join!(insert_all(&database, ada, &rows[0]), insert_all(&database, bob, &rows[1]));
        // What one statement writes is read from the log by the source.
        let many = format!(
            "INSERT INTO notifications (user_id, title, message)
             SELECT '{ada}', 'at once ' || i, 'm' FROM generate_series(0, 49) i"
        );
        database.psql(&many).await;
        for (of_ada, of_bob) in &mut streams {
            came_once(of_ada, &[rows[0].clone(), titles("at once", 50)].concat()).await;
            came_once(of_bob, &rows[1]).await;
        }
        for gateway in &gateways {
            assert!(gateway.metric("notify_gateway_relay_gaps_total").await < 0.5);
            assert!(gateway.metric("notify_gateway_relay_up").await > 0.5);
            assert_eq!(gateway.readyz_strict().await.0, 200);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_killed_is_followed_by_the_next() {
    for binary in Nats::binaries() {
        let nats = Nats::start(binary, "").await;
        let (database, relay) = (Database::new().await, nats.url());
        let source =
            Process::start(&database.url, &["--relay", &relay, "--relay-role", "source"]).await;
        let flags = ["--relay", &relay, "--heartbeat", "200ms"];
        let edge = TestGateway::start(&database.url, &flags).await;
        assert!(!is_source(&edge).await);
        let user = Uuid::new_v4();
        // Who connects to the source is told that there is no room, and at once.
        let authorization = format!("Bearer {}", token(user));
        let headers = [("authorization", authorization.as_str())];
        let asked = Instant::now();
        assert_eq!(request(source.address, "GET", STREAM_PATH, &headers).await.status, 503);
        assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());

        let mut stream = edge.connect(user).await;
        let rows = titles("row", 60);
        let killing = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            source.signal(Signal::SIGKILL);
        };
        tokio::join!(insert_all(&database, user, &rows), killing);
        came_once(&mut stream, &rows).await;
        eventually("the edge is the source", async || is_source(&edge).await).await;
        assert!(edge.metric("notify_gateway_relay_gaps_total").await < 0.5);
        database.insert(user, "after").await;
        came_once(&mut stream, &["after".to_owned()]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_nats_is_away_edges_sweep_for_themselves_and_say_so() {
    for binary in Nats::binaries() {
        let mut nats = Nats::start(binary, "").await;
        let database = Database::new().await;
        let gateways: [_; 2] = gateways(&database, &nats.url()).await;
        let user = Uuid::new_v4();
        let mut streams = [gateways[0].connect(user).await, gateways[1].connect(user).await];
        nats.kill();
        for gateway in &gateways {
            eventually("it says so", async || {
                let (status, said) = gateway.readyz_strict().await;
                status == 503 && said.contains("sweeping for itself")
            })
            .await;
            assert_eq!(gateway.readyz().await.0, 200);
        }
        database.insert(user, "meanwhile").await;
        for stream in &mut streams {
            came_once(stream, &["meanwhile".to_owned()]).await;
        }
        // All that it had is gone.
        nats.restart().await;
        let rows = titles("back", 20);
        insert_all(&database, user, &rows).await;
        for stream in &mut streams {
            came_once(stream, &rows).await;
        }
        for gateway in &gateways {
            gateway.ready().await;
            assert!(gateway.metric("notify_gateway_relay_up").await > 0.5);
        }
        // Nor is anything left of the sweeps that were given up.
        tokio::time::sleep(Duration::from_secs(4)).await;
        for gateway in &gateways {
            assert_eq!(gateway.readyz_strict().await.0, 200);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_that_freezes_and_goes_on_loses_and_doubles_nothing() {
    for binary in Nats::binaries() {
        let nats = Nats::start(binary, "").await;
        let database = Database::new().await;
        let gateways: [_; 2] = gateways(&database, &nats.url()).await;
        let user = Uuid::new_v4();
        let mut streams = [gateways[0].connect(user).await, gateways[1].connect(user).await];
        let rows = titles("row", 200);
        let freezing = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            nats.stop();
            tokio::time::sleep(Duration::from_secs(5)).await;
            nats.go_on();
        };
        tokio::join!(insert_all(&database, user, &rows), freezing);
        for stream in &mut streams {
            came_once(stream, &rows).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_was_cut_off_goes_on_where_it_was() {
    for binary in Nats::binaries() {
        let nats = Nats::start(binary, "").await;
        let database = Database::new().await;
        let network = Network::to(nats.port()).await;
        let source = TestGateway::start(&database.url, &["--relay", &nats.url()]).await;
        let way = format!("nats://127.0.0.1:{}", network.port);
        let flags = ["--relay", &way, "--relay-role", "edge", "--heartbeat", "200ms"];
        let edge = TestGateway::start(&database.url, &flags).await;
        let user = Uuid::new_v4();
        let mut stream = edge.connect(user).await;
        network.freeze();
        let rows = titles("row", 10);
        insert_all(&database, user, &rows).await;
        eventually("it sweeps for itself", async || {
            edge.metric("notify_gateway_relay_up").await < 0.5
        })
        .await;
        came_once(&mut stream, &rows).await;
        network.thaw();
        edge.ready().await;
        let rows = titles("again", 10);
        insert_all(&database, user, &rows).await;
        came_once(&mut stream, &rows).await;
        // NATS has kept what it missed.
        assert!(edge.metric("notify_gateway_relay_gaps_total").await < 0.5);
        drop(source);
    }
}

/// Its lock and LISTEN work, its pool does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_cannot_sweep_lets_others_do_it() {
    let Some(binary) = Nats::binaries().first().copied() else { return };
    let nats = Nats::start(binary, "").await;
    let (database, relay) = (Database::new().await, nats.url());
    let (_, after) = database.url.rsplit_once("127.0.0.1:").unwrap();
    let port = after.split('/').next().unwrap().parse().unwrap();
    let network = Network::to(port).await;
    let way = network.url(&database.url);
    let flags =
        ["--relay", &relay, "--relay-role", "source", "--listen-database-url", &database.url];
    let source = Process::start(&way, &flags).await;
    let edge = ["--relay", &relay, "--relay-role", "edge", "--heartbeat", "200ms"];
    let edge = TestGateway::start(&database.url, &edge).await;
    let user = Uuid::new_v4();
    let mut stream = edge.connect(user).await;
    network.freeze();
    // One statement with many rows is read by the sweep, which does not come.
    let many = format!(
        "INSERT INTO notifications (user_id, title, message)
         SELECT '{user}', 'at once ' || i, 'm' FROM generate_series(0, 9) i"
    );
    database.psql(&many).await;
    came_once(&mut stream, &titles("at once", 10)).await;
    assert!(source.metric("notify_gateway_relay_lead").await < 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_that_restarts_begins_an_epoch_for_the_edges_too() {
    let Some(binary) = Nats::binaries().first().copied() else { return };
    let nats = Nats::start(binary, "").await;
    let start = || Postgres::start(&["fsync=off"]).unwrap();
    let mut server = tokio::task::spawn_blocking(start).await.unwrap();
    let database = Database::new_on(&server).await;
    let gateways: [_; 2] = gateways(&database, &nats.url()).await;
    let user = Uuid::new_v4();
    let mut streams = [gateways[0].connect(user).await, gateways[1].connect(user).await];
    database.insert(user, "before").await;
    for stream in &mut streams {
        came_once(stream, &["before".to_owned()]).await;
    }
    server.stop().unwrap();
    server.start_server().unwrap();
    let insert = format!(
        "INSERT INTO notifications (user_id, title, message) VALUES ('{user}', 'after', 'm')"
    );
    database.psql(&insert).await;
    for stream in &mut streams {
        came_once(stream, &["after".to_owned()]).await;
    }
    for gateway in &gateways {
        gateway.ready().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_larger_than_nats_takes_is_read_from_the_log() {
    for binary in Nats::binaries() {
        let nats = Nats::start(binary, "max_payload: 32768").await;
        let database = Database::new().await;
        let [gateway] = gateways(&database, &nats.url()).await;
        let user = Uuid::new_v4();
        let mut stream = gateway.connect(user).await;
        let large = format!(
            "INSERT INTO notifications (user_id, title, message)
             SELECT '{user}', 'large ' || i, repeat('x', 50000) FROM generate_series(0, 2) i"
        );
        database.psql(&large).await;
        database.insert(user, "small").await;
        came_once(&mut stream, &[titles("large", 3), vec!["small".to_owned()]].concat()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_write_into_the_stream_harms_nobody() {
    for binary in Nats::binaries() {
        let nats = Nats::start(binary, "").await;
        let database = Database::new().await;
        let [gateway] = gateways(&database, &nats.url()).await;
        let user = Uuid::new_v4();
        let mut stream = gateway.connect(user).await;
        let stranger = async_nats::connect(nats.url()).await.unwrap();
        let rows = titles("row", 30);
        let writing = async {
            for garbage in ["", "hello", "ngw\u{1}\u{0}", "ngw\u{2}another version"] {
                stranger.publish("notify_gateway", garbage.into()).await.unwrap();
                stranger.flush().await.unwrap();
                tokio::time::sleep(Duration::from_millis(150)).await;
            }
        };
        tokio::join!(insert_all(&database, user, &rows), writing);
        came_once(&mut stream, &rows).await;
        // The source has noticed that it was not alone, and begun again; the edge hears it.
        eventually("it is the source", async || is_source(&gateway).await).await;
        gateway.ready().await;
        assert!(gateway.metric("notify_gateway_relay_up").await > 0.5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_reads_the_log_through_a_pooler_in_transaction_mode() {
    let Some(binary) = Nats::binaries().first().copied() else { return };
    let nats = Nats::start(binary, "").await;
    let database = Database::new().await;
    let Some(pooler) = PgBouncer::start(&database.url, "transaction", 2).await else { return };
    let source = TestGateway::start(&database.url, &["--relay", &nats.url()]).await;
    let flags = ["--relay", &nats.url(), "--relay-role", "edge"];
    let edge = TestGateway::start(&pooler.url(&database.url), &flags).await;
    let user = Uuid::new_v4();
    let cursor = edge.cursor(user).await;
    database.insert(user, "missed").await;
    let mut stream = edge.resume(user, &cursor).await;
    database.insert(user, "live").await;
    came_once(&mut stream, &["missed".to_owned(), "live".to_owned()]).await;
    drop(source);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_cursor_grows_long_gets_a_watermark_from_the_source() {
    let Some(binary) = Nats::binaries().first().copied() else { return };
    let nats = Nats::start(binary, "").await;
    let (database, relay) = (Database::new().await, nats.url());
    // No watermark comes by itself, and no transaction is quiet.
    let own = ["--sweep-interval", "1h", "--quiet", "never"];
    let flags = [&["--relay", relay.as_str(), "--relay-role", "source"], &own[..]].concat();
    let _source = Process::start(&database.url, &flags).await;
    let edge = ["--relay", &relay, "--relay-role", "edge"];
    let edge = TestGateway::start(&database.url, &edge).await;
    let user = Uuid::new_v4();
    let mut stream = edge.connect(user).await;
    let rows = titles("row", 600);
    let session = database.session().await;
    for title in &rows {
        let sql = format!(
            "INSERT INTO notifications (user_id, title, message) VALUES ('{user}', '{title}', 'm')"
        );
        session.batch_execute(&sql).await.unwrap();
    }
    let (came, id) = stream.titles(rows.len()).await;
    assert_eq!(came, rows);
    // Some 3 bytes a row that no watermark has seen.
    assert!(id.len() < 1000, "an id of {} bytes", id.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_how_the_relay_is() {
    for binary in Nats::binaries() {
        let mut nats = Nats::start(binary, "").await;
        let (database, relay) = (Database::new().await, nats.url());
        let check = async |role: &str| {
            let output = Command::new(env!("CARGO_BIN_EXE_notify-gateway"))
                .args(["check", "--json", "--jwt-secret", SECRET, "--database-url", &database.url])
                .args(["--relay", &relay, "--relay-role", role])
                .output();
            let output = output.await.unwrap();
            let findings: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
            let about = |about| move |finding: &&serde_json::Value| finding["about"] == about;
            let found = findings.iter().find(about("relay")).unwrap();
            let (verdict, what) = (&found["verdict"], &found["what"]);
            let listens = findings.iter().any(|finding| finding["about"] == "listen");
            (verdict.as_str().unwrap().to_owned(), what.as_str().unwrap().to_owned(), listens)
        };
        let (verdict, what, listens) = check("edge").await;
        assert!(verdict == "warning" && what.contains("no source has run") && !listens, "{what}");
        let gateway = TestGateway::start(&database.url, &["--relay", &relay]).await;
        let (verdict, what, _) = check("source").await;
        assert!(verdict == "ok" && what.contains("1 edges read it"), "{what}");
        drop(gateway);
        nats.kill();
        let (verdict, what, _) = check("both").await;
        assert!(verdict == "wrong" && what.contains("GATEWAY_RELAY"), "{what}");
    }
}

/// Those that docs/scaling.md names, and no other.
#[tokio::test(flavor = "multi_thread")]
async fn the_permissions_that_the_page_names_are_enough() {
    let page = include_str!("../../docs/scaling.md");
    let permissions = |role: &str| {
        let row = page.lines().find_map(|line| line.strip_prefix(&format!("| {role} | `")));
        let (publish, subscribe) = row.unwrap().trim_end_matches(" |").split_once(" | ").unwrap();
        let list = |text: &str| text.replace('`', "\"");
        let publish = list(&format!("`{publish}"));
        let subscribe = list(subscribe);
        format!(
            "{{ user: {role}, password: x, permissions: {{ publish: [{publish}], \
             subscribe: [{subscribe}] }} }}"
        )
    };
    let settings = format!(
        "authorization {{ users: [ {}, {} ] }}",
        permissions("source"),
        permissions("edge")
    );
    for binary in Nats::binaries() {
        let nats = Nats::start(binary, &settings).await;
        let database = Database::new().await;
        let url = |role: &str| format!("nats://{role}:x@127.0.0.1:{}", nats.port());
        let flags = ["--relay", &url("source"), "--relay-role", "source"];
        let source = Process::start(&database.url, &flags).await;
        let flags = ["--relay", &url("edge"), "--relay-role", "edge"];
        let edge = TestGateway::start(&database.url, &flags).await;
        let user = Uuid::new_v4();
        let mut stream = edge.connect(user).await;
        let rows = titles("row", 20);
        insert_all(&database, user, &rows).await;
        came_once(&mut stream, &rows).await;
        assert!(edge.metric("notify_gateway_relay_gaps_total").await < 0.5);
        assert!(!source.log().to_lowercase().contains("permissions"), "{}", source.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_that_wants_to_know_who_we_are_is_told() {
    // The pair of NATS' own documentation.
    const SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
    const PUBLIC: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";
    let authority = Authority::new();
    let server = authority.files("nats", "127.0.0.1");
    for binary in Nats::binaries() {
        let database = Database::new().await;
        let works = async |settings: &str, url: &dyn Fn(&Nats) -> String, flags: &[&str]| {
            let nats = Nats::start(binary, settings).await;
            let relay = url(&nats);
            let flags = [&["--relay", relay.as_str()], flags].concat();
            let gateway = TestGateway::start(&database.url, &flags).await;
            let user = Uuid::new_v4();
            let mut stream = gateway.connect(user).await;
            database.insert(user, "told").await;
            came_once(&mut stream, &["told".to_owned()]).await;
            assert!(gateway.metric("notify_gateway_relay_gaps_total").await < 0.5);
        };
        let with = |user: &'static str| {
            move |nats: &Nats| format!("nats://{user}@127.0.0.1:{}", nats.port())
        };
        works("authorization { token: s3cret }", &with("s3cret"), &[]).await;
        let password = "authorization { user: bell, password: s3cret }";
        works(password, &with("bell:s3cret"), &[]).await;
        let nkey = format!("authorization {{ users: [ {{ nkey: {PUBLIC} }} ] }}");
        let seed = authority.write("seed", SEED);
        works(&nkey, &Nats::url, &["--relay-nkey-file", &seed]).await;
        let tls =
            format!("tls {{ cert_file: {:?}, key_file: {:?} }}", server.certificate, server.key);
        works(&tls, &Nats::url, &["--relay-ca-file", &authority.root()]).await;

        let nats = Nats::start(binary, password).await;
        let gateway =
            TestGateway::start_unready(&database.url, &["--relay", &with("bell:wrong")(&nats)])
                .await;
        eventually("the refusal is told", async || {
            let (_, said) = gateway.readyz().await;
            assert!(!said.contains("wrong"), "{said}");
            said.to_lowercase().contains("authorization")
        })
        .await;
    }
}
