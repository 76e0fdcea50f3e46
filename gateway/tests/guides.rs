//! The pages that a stranger follows, followed: each block is done as it stands in the page, on
//! a real PostgreSQL and the real binary.

use std::{
    env, fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::Command,
};

use notify_gateway::throwaway::Postgres;

use crate::support::{
    Browser, Guide, Nginx, PATIENCE, Page, connect, eventually, guide, metric, own_server,
};

/// Where `make deps` puts Python and its packages.
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/migration-tools/bin");

const FRONTEND: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../frontend");

/// How the pages call the server that the reader has.
const EXAMPLE_SERVER: &str = "localhost:5432/";

/// Free ports for what the pages have at fixed ones.
fn free_ports<const N: usize>() -> [SocketAddr; N] {
    // All are held until all are known, so that they differ.
    let held = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap())
}

/// A reader with a server and a checkout, whose gateway is at `gateway` and not at 8080.
fn reader(page: &str, server: &Postgres, [gateway, admin]: [SocketAddr; 2]) -> Guide {
    let path = env::var("PATH").unwrap();
    let path = format!("{PYTHON}:{}:{path}", server.binaries().display());
    let (gateway_bind, admin_bind) = (gateway.to_string(), admin.to_string());
    let environment = [
        ("PATH", path.as_str()),
        ("GATEWAY_BIND", &gateway_bind),
        ("GATEWAY_ADMIN_BIND", &admin_bind),
        // `check` waits for half of it.
        ("GATEWAY_HEARTBEAT", "2s"),
        ("PYTHONDONTWRITEBYTECODE", "1"),
        // As in a real terminal, it says at once what it says.
        ("PYTHONUNBUFFERED", "1"),
    ];
    let mut guide = Guide::follow(page, &environment);
    guide.replace(EXAMPLE_SERVER, &format!("127.0.0.1:{}/", server.port()));
    guide.replace("127.0.0.1:8080", &gateway_bind);
    guide
}

/// What the page has as the superuser's password is another one here.
fn as_superuser(guide: &mut Guide, server: &Postgres) {
    let url = server.url("");
    let password = url.strip_prefix("postgres://postgres:").unwrap().split_once('@').unwrap().0;
    guide.replace("postgres:secret@", &format!("postgres:{password}@"));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_nothing_but_psql() {
    if !has_usual_tools() {
        return;
    }
    let server = own_server(&["fsync=off"]).await;
    let [gateway, admin] = free_ports();
    let mut guide = reader("start.md", &server, [gateway, admin]);
    guide.replace("127.0.0.1:8081", &admin.to_string());
    as_superuser(&mut guide, &server);
    guide.finish();
}

/// Whether something is there; where not, that is said loudly, and is an error where `CI` is set.
fn is_there(program: &Path, means: &str) -> bool {
    if !program.exists() {
        let missing = format!("SKIPPED: {} is not there ({means})", program.display());
        assert!(env::var_os("CI").is_none(), "{missing}");
        println!("{missing}");
    }
    program.exists()
}

/// What the commands of the pages need besides.
fn has_usual_tools() -> bool {
    let path = env::var_os("PATH").unwrap();
    ["bash", "curl", "openssl", "sed"].iter().all(|name| {
        let found =
            env::split_paths(&path).map(|place| place.join(name)).find(|file| file.exists());
        is_there(&found.unwrap_or_else(|| name.into()), "the pages use it")
    })
}

/// The client package as one file; whether it is there.
fn has_client() -> bool {
    let file = Path::new(FRONTEND).join("dist/notify-gateway.min.js");
    if !file.exists() && Path::new(FRONTEND).join("node_modules").exists() {
        let build = Command::new("npm").args(["run", "build"]).current_dir(FRONTEND).output();
        assert!(build.unwrap().status.success(), "the client package cannot be built");
    }
    is_there(&file, "cd frontend && npm ci && npm run build")
}

/// A browser that logs in on the page of a guide, and says what it shows.
struct Visitor {
    page: Page,
}

impl Visitor {
    /// Has the pages that the guide writes tell their badge and their list.
    async fn of(guide: &mut Guide, login: &str) -> Self {
        let page = Page::serve("", None).await;
        let script = format!(
            "</script><script type='module'>
             let last = Promise.resolve();
             const say = () => {{
               const body = JSON.stringify(badge.textContent + ': ' +
                 [...list.children].map((item) => item.textContent).join(', '));
               last = last.then(() => fetch('http://{}/report', {{ method: 'POST', mode: 'no-cors', body }}));
             }};
             new MutationObserver(say).observe(document.body, {{ childList: true, subtree: true }});
             {login}
             </script>",
            page.address()
        );
        guide.replace("</script>", &script);
        Self { page }
    }

    /// Waits until the page shows this.
    async fn sees(&mut self, expected: &str) {
        let mut seen = Vec::new();
        let looking = async {
            loop {
                let shown = self.page.reported().await;
                if shown.as_str() == Some(expected) {
                    return;
                }
                seen.push(shown);
            }
        };
        let found = tokio::time::timeout(PATIENCE, looking).await.is_ok();
        assert!(found, "the page never shows {expected:?}, but {seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_fastapi_application() {
    if !has_usual_tools()
        || !is_there(&Path::new(PYTHON).join("uvicorn"), "make deps")
        || !has_client()
    {
        return;
    }
    let server = own_server(&["fsync=off"]).await;
    let [gateway, admin, app] = free_ports();
    let mut guide = reader("fastapi.md", &server, [gateway, admin]);
    as_superuser(&mut guide, &server);
    guide.uses("nginx");
    guide.replace("--port 8000", &format!("--port {}", app.port()));
    guide.replace("127.0.0.1:8000", &app.to_string());
    let login = "login.email.value = 'ada@example.com'; login.requestSubmit();";
    let mut visitor = Visitor::of(&mut guide, login).await;

    guide.up_to("6. See it ring");
    let Some(nginx) = Nginx::start(gateway, app).await else { return };
    let url = format!("http://localhost:{}/", nginx.address.port());
    let Some(browser) = Browser::open_at(&url) else { return };
    visitor.sees("0: ").await;
    guide.up_to("The client package");
    visitor.sees("1: Export ready").await;
    visitor.sees("0: Export ready").await;
    drop(browser);

    guide.up_to("Log out everywhere");
    let Some(browser) = Browser::open_at(&url) else { return };
    visitor.sees("0: Export ready").await;
    let client = connect(&server.url("shop")).await;
    let insert = "INSERT INTO notifications (id, user_id, kind, title, body)
                  SELECT gen_random_uuid(), id, 'info', 'From psql', '' FROM users";
    client.execute(insert, &[]).await.unwrap();
    visitor.sees("1: From psql, Export ready").await;
    drop(browser);

    guide.finish();
    guide.also(SYNCHRONOUS);
    let lines = guide::used("fastapi.md", "a table of another name");
    guide.also(&ANOTHER_NAME.replace("LINES", lines.trim_start()));
}

/// The same migration with the page's lines for a table that is not called `notifications`.
const ANOTHER_NAME: &str = r#"
psql --quiet "$ADMIN_URL" -c 'CREATE DATABASE other OWNER shop'
LINES
python3 - <<'END'
import os
from pathlib import Path
import sqlalchemy as sa
from alembic import op
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations

metadata = sa.MetaData()
key = sa.Column("id", sa.Integer, primary_key=True)
sa.Table("alerts", metadata, key, sa.Column("user_id", sa.Integer, nullable=False))
url = os.environ["DATABASE_URL"].replace("+asyncpg", "+psycopg").removesuffix("/shop") + "/other"
engine = sa.create_engine(url)
metadata.create_all(engine)
with engine.begin() as connection, Operations.context(MigrationContext.configure(connection)):
    op.execute(Path("migrations/versions/0002_notify_gateway.sql").read_text())
    op.execute("SELECT notify_gateway.watch('alerts')")
with engine.begin() as connection:
    difference = compare_metadata(MigrationContext.configure(connection), metadata)
    assert not difference, difference
    watched = connection.exec_driver_sql("SELECT relation, trigger FROM notify_gateway.watched")
    assert [tuple(row) for row in watched] == [("alerts", "always")]
END
"#;

/// The page's migration, down and up again, by psycopg and without asyncio.
const SYNCHRONOUS: &str = r#"python3 - <<'END'
import importlib.util, os
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations

path = "migrations/versions/0002_notify_gateway.py"
spec = importlib.util.spec_from_file_location("migration", path)
migration = importlib.util.module_from_spec(spec)
spec.loader.exec_module(migration)
engine = sa.create_engine(os.environ["DATABASE_URL"].replace("+asyncpg", "+psycopg"))
for step in [migration.downgrade, migration.upgrade]:
    with engine.begin() as connection:
        with Operations.context(MigrationContext.configure(connection)):
            step()
with engine.begin() as connection:
    watched = connection.exec_driver_sql("SELECT trigger FROM notify_gateway.watched").scalar_one()
    assert watched == "always", watched
END
"#;

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_django_application() {
    if !has_usual_tools() || !is_there(&Path::new(PYTHON).join("django-admin"), "make deps") {
        return;
    }
    let server = own_server(&["fsync=off"]).await;
    let [gateway, admin, app] = free_ports();
    let mut guide = reader("django.md", &server, [gateway, admin]);
    as_superuser(&mut guide, &server);
    guide.uses("nginx");
    guide.replace(
        "\"HOST\": \"localhost\", \"PORT\": 5432",
        &format!("\"HOST\": \"127.0.0.1\", \"PORT\": {}", server.port()),
    );
    guide.replace("runserver 8000", &format!("runserver {}", app.port()));
    guide.replace("127.0.0.1:8000", &app.to_string());
    let button = "<button>Log in</button>";
    let login = "<script>addEventListener('load', () => {
                   login.username.value = 'ada'; login.password.value = 'analytical';
                   login.requestSubmit();
                 });</script>";
    // Before the visitor's own, which goes to where a script ends.
    let mut visitor = Visitor::of(&mut guide, "").await;
    guide.replace(button, &format!("{button}{login}"));

    // So short that it ends while the page is open.
    guide.replace("timedelta(minutes=15)", "timedelta(seconds=6)");
    guide.replace("JWT_COOKIE=bell\n", "JWT_COOKIE=bell\nJWT_LEEWAY=0s\n");

    guide.up_to("7. See it ring");
    // As any nginx before Django has it, whose forms need the host.
    let with_host = |config: &str| {
        config.replace("location / {", "location / { proxy_set_header Host $http_host;")
    };
    let Some(nginx) = Nginx::start_but(gateway, app, with_host).await else { return };
    let url = format!("http://localhost:{}/", nginx.address.port());
    let Some(_browser) = Browser::open_at(&url) else { return };
    visitor.sees("0: ").await;
    guide.up_to("Log out");
    visitor.sees("1: Your order has been sent").await;
    visitor.sees("0: Your order has been sent").await;

    eventually("the token ends", async || {
        metric(admin, "notify_gateway_stream_ends_total{reason=\"token_expired\"}").await > 0.0
    })
    .await;
    let client = connect(&server.url("shop")).await;
    let insert = "INSERT INTO inbox_notification (recipient_id, verb, created_at)
                  SELECT id, 'Behind the token', now() FROM auth_user";
    client.execute(insert, &[]).await.unwrap();
    visitor.sees("1: Your order has been sent, Behind the token").await;
    guide.finish();
}

#[test]
fn the_lines_for_nginx_are_the_same_on_every_page() {
    let title = "/etc/nginx/snippets/bell.conf";
    let lines = guide::file_of("proxies.md", title);
    assert_eq!(guide::file_of("fastapi.md", title), lines);
    assert_eq!(guide::file_of("django.md", title), lines);
    let example = Path::new(FRONTEND).join("../examples/fastapi/nginx/bell.conf");
    assert_eq!(fs::read_to_string(example).unwrap(), lines);
}
