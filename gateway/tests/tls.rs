//! TLS on both sides: to the browsers and to Postgres.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use notify_gateway::{http::STREAM_PATH, throwaway::Postgres};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use uuid::Uuid;

use crate::support::{
    Authority, Database, PATIENCE, Process, TestGateway, connect, default_schema, eventually, token,
};

#[tokio::test]
async fn a_stream_flows_inside_tls_over_http_2_and_1_as_the_client_prefers() {
    let database = Database::new().await;
    let authority = Authority::new();
    let files = authority.files("server", "localhost");
    let flags = ["--tls-cert", &files.certificate, "--tls-key", &files.key];
    let gateway = TestGateway::start(&database.url, &flags).await;
    let user = Uuid::new_v4();
    let target = format!("{STREAM_PATH}?access_token={}", token(user));

    let mut h1 = authority.connect(gateway.address, &["http/1.1"]).await.unwrap();
    assert_eq!(h1.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let head = format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    h1.write_all(head.as_bytes()).await.unwrap();

    let h2 = authority.connect(gateway.address, &["h2", "http/1.1"]).await.unwrap();
    assert_eq!(h2.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(h2))
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get(format!("https://localhost{target}"));
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    let mut response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    // It is forbidden there (RFC 9113, section 8.2.2).
    assert!(!response.headers().contains_key("connection"));

    eventually("both are open", async || {
        (gateway.metric("sse_connections_total").await - 2.0).abs() < 0.1
    })
    .await;
    database.insert(user, "a secret on the wire").await;
    let mut seen = [String::new(), String::new()];
    let reading = async {
        while !seen[0].contains("a secret on the wire") {
            let frame = response.body_mut().frame().await.unwrap().unwrap();
            seen[0] += std::str::from_utf8(frame.data_ref().unwrap()).unwrap();
        }
        while !seen[1].contains("a secret on the wire") {
            let mut bytes = [0; 4096];
            let n = h1.read(&mut bytes).await.unwrap();
            assert!(n > 0, "{}", seen[1]);
            seen[1] += &String::from_utf8_lossy(&bytes[..n]);
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap();
    assert!(seen[1].starts_with("HTTP/1.1 200 OK\r\n"), "{}", seen[1]);
    connection.abort();

    // Nothing is spoken in the clear on this port.
    let mut plain = TcpStream::connect(gateway.address).await.unwrap();
    plain.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _reset = tokio::time::timeout(PATIENCE, plain.read_to_end(&mut answer)).await.unwrap();
    assert!(!answer.starts_with(b"HTTP/"), "{answer:?}");
}

/// A server of its own: TLS changes what every client of it sees.
pub(crate) async fn postgres_with_tls(authority: &Authority, access: &str) -> Postgres {
    let server = tokio::task::spawn_blocking(|| Postgres::start(&["fsync=off"]).unwrap());
    let server = server.await.unwrap();
    let client = connect(&server.url("postgres")).await;
    let (certificate, key) = authority.sign("localhost");
    write(&client, "server.crt", &certificate).await;
    write(&client, "server.key", &key).await;
    write(&client, "root.crt", authority.pem()).await;
    let own = "host all postgres 127.0.0.1/32 scram-sha-256";
    write(&client, "pg_hba.conf", &format!("{access}\n{own}\n")).await;
    for setting in ["ssl = on", "ssl_ca_file = 'root.crt'"] {
        client.batch_execute(&format!("ALTER SYSTEM SET {setting}")).await.unwrap();
    }
    client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    client.batch_execute(&default_schema()).await.unwrap();
    server
}

/// Has the server write a file of its own, as whoever it runs.
async fn write(client: &tokio_postgres::Client, file: &str, text: &str) {
    let sql = format!(
        "COPY (SELECT regexp_split_to_table('{text}', '\n'))
         TO PROGRAM 'umask 077; cat > {file}'"
    );
    client.batch_execute(&sql).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_to_postgres_is_as_safe_as_the_url_says() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let access = "hostssl all bell 127.0.0.1/32 cert";
    let server = postgres_with_tls(&authority, access).await;
    let admin = connect(&server.url("postgres")).await;
    admin.batch_execute("CREATE ROLE bell LOGIN IN ROLE notify_gateway").await.unwrap();
    let (root, foreign) = (authority.root(), stranger.root());
    let bell = authority.files("bell", "bell");
    let identity = format!("sslcert={}&sslkey={}", bell.certificate, bell.key);

    let url = server.url("postgres");
    let by_name = url.replace("127.0.0.1", "localhost");
    let as_bell = format!("postgres://bell@localhost:{}/postgres", server.port());
    for (base, query) in [
        (&url, "sslmode=require".to_owned()),
        // The name is not looked at: the certificate says localhost.
        (&url, format!("sslmode=verify-ca&sslrootcert={root}")),
        (&by_name, format!("sslmode=verify-full&sslrootcert={root}")),
        (&as_bell, format!("sslmode=verify-full&sslrootcert={root}&{identity}")),
    ] {
        let gateway = TestGateway::start(&format!("{base}?{query}"), &[]).await;
        let user = Uuid::new_v4();
        let mut stream = gateway.connect(user).await;
        let sql = format!(
            "INSERT INTO notifications (user_id, title, message) VALUES ('{user}', 'safe', '')"
        );
        admin.batch_execute(&sql).await.unwrap();
        assert_eq!(stream.next_but_heartbeat().await.title(), "safe");
        let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                         WHERE application_name = 'notify-gateway' AND NOT ssl";
        let in_the_clear: i64 = admin.query_one(encrypted, &[]).await.unwrap().get(0);
        assert_eq!(in_the_clear, 0, "{query}");
    }
    for (base, query) in [
        (&url, format!("sslmode=verify-full&sslrootcert={root}")),
        (&by_name, format!("sslmode=verify-full&sslrootcert={foreign}")),
        (&url, format!("sslmode=verify-ca&sslrootcert={foreign}")),
        (&url, format!("sslmode=require&sslrootcert={foreign}")),
    ] {
        let gateway = TestGateway::start_unready(&format!("{base}?{query}"), &[]).await;
        eventually("it says why", async || gateway.readyz().await.1.contains("certificate")).await;
    }

    // What `openssl x509 -req` writes: of a version that nothing here can read,
    // and that nobody who asks for no proof has to.
    write(&admin, "server.crt", include_str!("keys/v1.crt.pem")).await;
    write(&admin, "server.key", include_str!("keys/v1.pem")).await;
    admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    for mode in ["prefer", "require"] {
        TestGateway::start(&format!("{url}?sslmode={mode}"), &[]).await;
    }
}

/// A certificate that is its own authority, as `openssl req -x509` makes one,
/// and its key.
fn self_signed(sans: &[&str], common_name: &str, is_expired: bool) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let sans: Vec<String> = sans.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(sans).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    if is_expired {
        params.not_after = rcgen::date_time_ymd(2024, 1, 1);
    }
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// Whether libpq connects.
async fn libpq_connects(url: &str) -> bool {
    let psql = notify_gateway::throwaway::find_binaries().unwrap().join("psql");
    let mut command = std::process::Command::new(psql);
    command.args(["--no-psqlrc", "-d", url, "-Atc", "SELECT 1"]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    output.status.success()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_its_own_authority_is_believed_as_libpq_believes_it() {
    let authority = Authority::new();
    let server = postgres_with_tls(&authority, "").await;
    let admin = connect(&server.url("postgres")).await;
    let by_address = server.url("postgres");
    let by_name = by_address.replace("127.0.0.1", "localhost");
    let root = |mode: &str| format!("sslmode={mode}&sslrootcert={}", authority.path("own.pem"));
    let (full, ca) = (root("verify-full"), root("verify-ca"));
    let foreign = self_signed(&["localhost"], "localhost", false).0;

    for (sans, common_name, is_expired, is_foreign, url, query, is_believed) in [
        (&["localhost"][..], "x", false, false, &by_name, &full, true),
        (&["localhost"], "x", false, false, &by_address, &full, false),
        (&["localhost"], "x", false, false, &by_address, &ca, true),
        (&["127.0.0.1"], "x", false, false, &by_address, &full, true),
        (&["elsewhere"], "localhost", false, false, &by_name, &full, false),
        (&[], "localhost", false, false, &by_name, &full, true),
        (&[], "elsewhere", false, false, &by_name, &full, false),
        (&["localhost"], "localhost", true, false, &by_name, &full, false),
        (&["localhost"], "localhost", true, false, &by_name, &ca, false),
        (&["localhost"], "localhost", false, true, &by_name, &full, false),
        (&["localhost"], "localhost", false, true, &by_name, &ca, false),
    ] {
        let what = format!("{sans:?} {common_name} {is_expired} {is_foreign} {url} {query}");
        let (certificate, key) = self_signed(sans, common_name, is_expired);
        write(&admin, "server.crt", &certificate).await;
        write(&admin, "server.key", &key).await;
        authority.write("own.pem", if is_foreign { &foreign } else { &certificate });
        admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        let url = format!("{url}?{query}");
        eventually(&format!("libpq is of one mind with us: {what}"), async || {
            libpq_connects(&url).await == is_believed
        })
        .await;
        let gateway = TestGateway::start_unready(&url, &[]).await;
        if is_believed {
            gateway.ready().await;
        } else {
            let refusal = async || gateway.readyz().await.1.contains("certificate");
            eventually(&format!("it is refused: {what}"), refusal).await;
        }
    }
}

#[tokio::test]
async fn sighup_shows_the_new_certificate_and_keeps_the_old_where_the_new_is_bad() {
    let database = Database::new().await;
    let authority = Authority::new();
    let files = authority.files("server", "localhost");
    let secret = authority.write("secret", "an old secret that is long enough for HS256");
    let flags =
        ["--tls-cert", &files.certificate, "--tls-key", &files.key, "--jwt-secret-file", &secret];
    let process = Process::start(&database.url, &flags).await;
    let shown = async || {
        let stream = authority.connect(process.address, &["http/1.1"]).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    };
    let before = shown().await;
    let refusals = || process.log().matches("not reloaded").count();

    // The key of another certificate, and no secret at all.
    authority.write("server.key", &authority.sign("localhost").1);
    authority.write("secret", "\n");
    process.signal(nix::sys::signal::Signal::SIGHUP);
    eventually("both are refused", async || refusals() == 2).await;
    assert!(process.log().contains("GATEWAY_TLS_CERT"), "{}", process.log());
    assert!(process.log().contains("JWT_SECRET_FILE"), "{}", process.log());
    assert_eq!(shown().await, before);

    authority.files("server", "localhost");
    authority.write("secret", crate::support::SECRET);
    process.signal(nix::sys::signal::Signal::SIGHUP);
    eventually("the new one is shown", async || shown().await != before).await;
    assert_eq!(refusals(), 2);
    let target = format!("{STREAM_PATH}?access_token={}", token(Uuid::new_v4()));
    eventually("the new secret counts", async || {
        let mut stream = authority.connect(process.address, &["http/1.1"]).await.unwrap();
        let head = format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        status == *b"HTTP/1.1 200"
    })
    .await;
}

#[tokio::test]
async fn who_never_finishes_the_handshake_is_cut_off() {
    let database = Database::new().await;
    let authority = Authority::new();
    let files = authority.files("server", "localhost");
    let flags = ["--tls-cert", &files.certificate, "--tls-key", &files.key];
    let gateway = TestGateway::start(&database.url, &flags).await;
    let mut silent = TcpStream::connect(gateway.address).await.unwrap();
    let mut rest = Vec::new();
    let closed = silent.read_to_end(&mut rest);
    tokio::time::timeout(PATIENCE + Duration::from_secs(10), closed).await.unwrap().unwrap();
    assert!(rest.is_empty());
}
