//! A wrong setting is one line that names it, and exit code 2.

use assert_cmd::Command;
use uuid::Uuid;

use crate::support::{Database, SECRET, command};

#[test]
fn each_wrong_setting_is_one_line_that_names_it() {
    let good = ["--database-url", "postgres://u@127.0.0.1:1/app", "--jwt-secret", SECRET];
    let file = ["--jwt-secret-file", "/nowhere/secret"];
    for (arguments, parts) in [
        (&good[..2], &["--jwt-secret", "JWT_SECRET"][..]),
        (&good[2..], &["--database-url", "DATABASE_URL"]),
        (
            &[&good[2..], &["--database-url", "mysql://u:hunter2@h/d"]].concat(),
            &["--database-url", "postgres://"],
        ),
        (
            &[&good[..], &["--heartbeat", "soon"]].concat(),
            &["--heartbeat", "GATEWAY_HEARTBEAT", "30s"],
        ),
        (&[&good[..], &["--bind", "8080"]].concat(), &["--bind", "GATEWAY_BIND"]),
        (
            &[&good[..], &["--stream-buffer", "0"]].concat(),
            &["--stream-buffer", "GATEWAY_STREAM_BUFFER"],
        ),
        (&[&good[..2], &file].concat(), &["--jwt-secret", "/nowhere/secret"]),
        (
            &[
                &good[..2],
                &[
                    "--jwt-public-key-file",
                    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/rsa.pem"),
                ],
            ]
            .concat(),
            &["JWT_PUBLIC_KEY_FILE", "private"],
        ),
        (
            &[&good[2..], &["--database-url", "postgres://u@h/d?sslfoo=hunter2"]].concat(),
            &["--database-url", "an unknown name"],
        ),
        (
            &[&good[2..], &["--database-url", "postgres://u:hunter2@hunter2@h/d"]].concat(),
            &["--database-url", "%40"],
        ),
        (
            &[&good[2..], &["--database-url", "postgres://u:hunter2#hunter2@h/d"]].concat(),
            &["--database-url", "%23"],
        ),
        (
            &[&good[..], &["--listen-database-url", "mysql://u:hunter2@h/d"]].concat(),
            &["--listen-database-url", "LISTEN_DATABASE_URL", "postgres://"],
        ),
        (&["nonsense"], &["nonsense"]),
        (&["token"], &["--user"]),
    ] {
        let (code, stderr) = command(arguments);
        assert_eq!(code, 2, "{arguments:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
        assert!(parts.iter().all(|part| stderr.contains(part)), "{arguments:?}: {stderr}");
        assert!(!stderr.contains("hunter2"), "{stderr}");
    }
}

#[test]
fn a_wrong_variable_is_named_too() {
    let output = Command::new(env!("CARGO_BIN_EXE_notify-gateway"))
        .env("GATEWAY_RETRY", "1")
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr.contains("GATEWAY_RETRY") && stderr.lines().count() == 1, "{stderr}");
}

#[tokio::test]
async fn what_is_no_setting_of_ours_is_one_line_too_and_exit_code_1() {
    let database = Database::new().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ports = ["--bind", &address, "--admin-bind", "127.0.0.1:0", "--jwt-secret", SECRET];
    let (code, stderr) = command(&[&ports[..], &["--database-url", &database.url]].concat());
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("--bind (GATEWAY_BIND)") && stderr.contains(&address), "{stderr}");

    let free = ["--bind", "127.0.0.1:0", "--admin-bind", "127.0.0.1:0", "--jwt-secret", SECRET];
    let (_, rest) = database.url.rsplit_once('@').unwrap();
    for credentials in ["postgres:wrong", "postgres", "nobody:x"] {
        let url = format!("postgres://{credentials}@{rest}");
        let (code, stderr) = command(&[&free[..], &["--database-url", &url]].concat());
        assert_eq!(code, 1, "{stderr}");
        let last = stderr.lines().last().unwrap();
        assert!(
            last.contains("--database-url (DATABASE_URL)") && last.contains("password"),
            "{stderr}"
        );
    }
    let url = database.url.rsplit_once('/').unwrap().0.to_owned() + "/no_such_database";
    let (code, stderr) = command(&[&free[..], &["--database-url", &url]].concat());
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.lines().last().unwrap().contains("no_such_database"), "{stderr}");
}

#[test]
fn token_prints_a_token_and_nothing_else() {
    let user = Uuid::new_v4().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_notify-gateway"))
        .args(["token", "--user", &user, "--jwt-secret", SECRET])
        .output()
        .unwrap();
    assert!(output.status.success());
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(printed.trim().split('.').count(), 3);
    assert_eq!(printed.lines().count(), 1);
}

#[test]
fn a_variable_that_is_set_to_nothing_is_not_set() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_notify-gateway"));
    let empty = ["DATABASE_URL_FILE", "JWT_SECRET_FILE", "JWT_COOKIE", "GATEWAY_HEARTBEAT"];
    command.envs(empty.map(|name| (name, "")));
    let output = command.args(["--jwt-secret", SECRET]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr.contains("--database-url (DATABASE_URL"), "{stderr}");
}
