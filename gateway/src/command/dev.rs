//! `notify-gateway dev`: all of it on one's own machine, for as long as it
//! runs.

mod demo;

use std::{
    io::Write as _,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::Parser as _;
use nix::unistd::Uid;
use notify_gateway::{
    auth,
    config::{Config, LogFormat, Settings},
    gateway::Gateway,
    http::STREAM_PATH,
    schema, telemetry,
    throwaway::{self, Nats, Postgres},
};
use uuid::Uuid;

use super::{Failure, serve};
use demo::{Demo, DemoUser};

/// A working day: a token that ends while somebody is looking at the page would
/// look like a fault.
const TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The address of the page and the stream
    #[arg(long, env = "GATEWAY_BIND", default_value = "127.0.0.1:8080", value_name = "ADDR")]
    bind: SocketAddr,
    /// The address of /healthz, /readyz, /metrics
    #[arg(long, env = "GATEWAY_ADMIN_BIND", default_value = "127.0.0.1:8081", value_name = "ADDR")]
    admin_bind: SocketAddr,
    /// With NATS in between: one gateway listens to PostgreSQL, another has the streams
    #[arg(long)]
    relay: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    if throwaway::find_binaries().is_none() {
        install_postgres()?;
    }
    say("starting a throwaway PostgreSQL …");
    let postgres = Postgres::start(&[]).context("cannot start PostgreSQL")?;
    let outcome = serve::runtime(1)?.block_on(async {
        let telemetry = telemetry::init(LogFormat::Text).map_err(Failure::Usage)?;
        let outcome = run_beside(arguments, &postgres).await;
        telemetry.end().await;
        outcome
    });
    drop(postgres);
    say("stopped; the throwaway database is gone");
    outcome
}

async fn run_beside(arguments: &Arguments, postgres: &Postgres) -> Result<(), Failure> {
    let nats = arguments.relay.then(Nats::start).transpose().context("cannot start NATS")?;
    let relay = nats.as_ref().map(Nats::url);
    let secret = Uuid::new_v4().to_string();
    let settings = |role, bind, admin_bind| {
        let database_url = postgres.url("postgres");
        config(&database_url, &secret, bind, admin_bind, relay.as_deref().map(|url| (url, role)))
    };
    let config = settings("edge", arguments.bind, arguments.admin_bind)?;
    let pool = demo::pool(&config.database.config).context("cannot make a pool")?;
    let sql = schema::sql(&config.channel);
    let client = pool.get().await.context("cannot connect to PostgreSQL")?;
    client.batch_execute(&sql).await.context("cannot apply schema.sql")?;
    drop(client);

    let auth = config.auth.clone();
    let gateway = Gateway::bind(config).map_err(anyhow::Error::from)?;
    let address = gateway.local_addr().context("the public port")?;
    let health = gateway.health();
    let mut users = Vec::new();
    for name in ["Ada", "Grace"] {
        let user = Uuid::new_v4();
        let token =
            auth::sign(&auth, &user.into(), TOKEN_LIFETIME).context("cannot sign a token")?;
        users.push(DemoUser {
            name,
            user_id: user,
            curl: format!(
                "curl -N -H 'Authorization: Bearer {token}' http://{address}{STREAM_PATH}"
            ),
            psql: psql_line(postgres, user),
            token,
        });
    }
    let shutdown = serve::shutdown_on_signal()?;
    if relay.is_some() {
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let source = Gateway::bind(settings("source", free, free)?).map_err(anyhow::Error::from)?;
        let admin = source.admin_addr().context("the admin port of the source")?;
        say(&format!("the source's metrics: http://{admin}/metrics"));
        tokio::spawn(source.run(shutdown.clone()));
    }
    let welcome = welcome(address, &users);
    tokio::spawn(async move {
        health.ready().await;
        say(&welcome);
    });
    gateway
        .run_with(|routes| Demo::new(routes, pool, users), shutdown)
        .await
        .context("the throwaway database")?;
    Ok(())
}

/// The settings a person would type for `serve`, so that what runs is what
/// they will run.
fn config(
    database_url: &str,
    secret: &str,
    bind: SocketAddr,
    admin_bind: SocketAddr,
    relay: Option<(&str, &str)>,
) -> Result<Config, Failure> {
    #[derive(clap::Parser)]
    struct Serve {
        #[command(flatten)]
        settings: Settings,
    }
    let (bind, admin_bind) = (bind.to_string(), admin_bind.to_string());
    let (url, role) = relay.unwrap_or(("", "both"));
    let flags = [
        ["--bind", &bind],
        ["--admin-bind", &admin_bind],
        ["--database-url", database_url],
        ["--jwt-secret", secret],
        // An empty URL means no relay, and goes before GATEWAY_RELAY.
        ["--relay", url],
        ["--relay-role", role],
    ];
    let flags = ["dev"].into_iter().chain(flags.into_iter().flatten());
    let mut settings = Serve::try_parse_from(flags)
        .map_err(|error| Failure::Usage(super::one_line(&error)))?
        .settings;
    // Those of the environment belong to a gateway that serves.
    settings.database.database_url_file = None;
    settings.listen_database_url = None;
    settings.listen_database_url_file = None;
    settings.auth.jwt_secret_file = None;
    settings.relay.relay_file = None;
    Ok(settings.into_config()?)
}

fn psql_line(postgres: &Postgres, user: Uuid) -> String {
    // Where psql is not on the PATH it is beside the server's own binaries.
    let on_path = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join("psql").exists()));
    let psql =
        if on_path { Path::new("psql").to_owned() } else { postgres.binaries().join("psql") };
    format!(
        "{} {} -c \"INSERT INTO notifications (user_id, title, message) \
         VALUES ('{user}', 'Hello', 'typed in psql')\"",
        psql.display(),
        postgres.url("postgres"),
    )
}

fn welcome(address: SocketAddr, users: &[DemoUser]) -> String {
    let mut text = format!(
        "ready. Open the page, or run the second line in one terminal and the third in another:\n\n\
         page:  http://{address}/\n"
    );
    if let Some(user) = users.first() {
        text += &format!("curl:  {}\npsql:  {}\n", user.curl, user.psql);
    }
    text + "\nCtrl-C stops it and removes the database."
}

/// Installs Debian's package where that is allowed; else says what to type.
fn install_postgres() -> anyhow::Result<()> {
    let has_apt = Path::new("/usr/bin/apt-get").exists();
    if !has_apt || !Uid::effective().is_root() {
        let command = if has_apt {
            "sudo apt-get install postgresql"
        } else if cfg!(target_os = "macos") {
            "brew install postgresql@17"
        } else {
            "your system's installer for the PostgreSQL server"
        };
        bail!(
            "PostgreSQL's server (initdb, postgres) is not installed; install it with: {command}"
        );
    }
    say("PostgreSQL is not installed; installing Debian's package …");
    for arguments in [&["update"][..], &["install", "-y", "--no-install-recommends", "postgresql"]]
    {
        let status = Command::new("apt-get")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(Stdio::null())
            .status()
            .context("cannot run apt-get")?;
        if !status.success() {
            bail!("apt-get {} failed: {status}", arguments.join(" "));
        }
    }
    Ok(())
}

fn say(text: &str) {
    // A closed standard output is no reason to stop.
    let _written = writeln!(std::io::stdout(), "{text}");
}
