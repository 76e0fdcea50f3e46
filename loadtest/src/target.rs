//! The server under test: where it is, who its users are, which processes it
//! runs as.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use notify_gateway::{
    auth::{self, AuthConfig},
    notification::UserId,
    secret::SigningSecret,
};
use uuid::Uuid;

use crate::{
    options::{Common, TargetOptions, WriterKind, WriterOptions},
    protocol::{EventNames, Setup, StreamOrder},
    request::{RequestTemplate, Url},
    stage::{self, Stage},
    writer::{self, PostgresWriter, Publisher, Sink},
};

/// Longer than any run.
const TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// Streams that come from one loopback address. An address has 28,000 ports, but
/// the kernel looks for a free one step by step, past all those still in
/// TIME_WAIT: with some thousands of them a bind takes milliseconds.
const STREAMS_PER_ADDRESS: usize = 100;

/// Source addresses are 127.64.0.0 and up, far from anything that listens.
const FIRST_ADDRESS: u32 = 0x7f40_0000;
const ADDRESSES: u32 = 1 << 22;

/// A server and how to talk to it.
pub(crate) struct Target {
    /// As the report calls them.
    pub(crate) urls: Vec<String>,
    pub(crate) server_pids: Vec<u32>,
    pub(crate) postgres_pid: Option<u32>,
    /// None where rows were not asked for.
    sink: Option<Sink>,
    /// The same of each.
    replicas: Vec<Replica>,
    events: EventNames,
    users: Users,
    /// Ends what was started for the run.
    _stage: Option<Stage>,
}

/// Where one process of the server is, and what it is asked.
struct Replica {
    address: SocketAddr,
    request: RequestTemplate,
}

enum Users {
    Listed(Vec<(String, String)>),
    Signed(Box<AuthConfig>),
    /// A server that asks for no token.
    Anyone,
}

impl Target {
    /// Starts what has to be started.
    pub(crate) async fn prepare(common: &Common) -> anyhow::Result<Self> {
        let options = &common.target;
        let stage = if options.self_contained {
            let binary = stage::gateway_binary(options.gateway_bin.as_deref())?;
            Some(Stage::start(&binary, &options.gateway_arg).await?)
        } else {
            None
        };
        let urls = stage.as_ref().map_or(options.url.clone(), |stage| vec![stage.stream_url()]);
        let secret = stage.as_ref().map(|stage| stage.secret.clone());
        let users = users(options, secret.or_else(|| options.jwt_secret.clone()))?;
        let mut server_pids = options.server_pid.clone();
        server_pids.extend(stage.as_ref().map(Stage::gateway_pid));
        for pid in &server_pids {
            if !Path::new(&format!("/proc/{pid}")).exists() {
                bail!("--server-pid {pid}: there is no such process");
            }
        }
        let database_url =
            stage.as_ref().map(Stage::database_url).or_else(|| common.writer.database_url.clone());
        // The default header would send an empty token where there is none.
        let has_tokens = !matches!(users, Users::Anyone);
        let is_sent =
            |line: &&String| !line.is_empty() && (has_tokens || !line.contains("{token}"));
        let headers: Vec<String> = options.header.iter().filter(is_sent).cloned().collect();
        let replica = |text: &String| {
            let url = Url::parse(text)?;
            let request = RequestTemplate {
                target: url.target,
                host: url.host,
                headers: headers.clone(),
                resume: options.resume.clone(),
            };
            anyhow::Ok(Replica { address: url.address, request })
        };
        Ok(Self {
            server_pids,
            postgres_pid: stage.as_ref().map_or(options.postgres_pid, Stage::postgres_pid),
            sink: sink(&common.writer, database_url)?,
            replicas: urls.iter().map(replica).collect::<Result<_, _>>()?,
            events: EventNames {
                notification: options.notification_event.clone(),
                opened: Some(options.opened_event.clone()).filter(|name| !name.is_empty()),
                resync: options.resync_event.clone(),
                closing: options.closing_event.clone(),
            },
            users,
            urls,
            _stage: stage,
        })
    }

    /// What the `index`th worker has to know: the replicas take turns.
    pub(crate) fn setup(&self, run: &str, index: usize) -> Setup {
        let Replica { address, request } = &self.replicas[index % self.replicas.len()];
        Setup {
            run: run.to_owned(),
            address: *address,
            request: request.clone(),
            events: self.events.clone(),
            seed: fastrand::u64(..),
        }
    }

    /// Where rows go.
    pub(crate) fn sink(&self) -> anyhow::Result<Sink> {
        self.sink.clone().context("rows have to be written: --database-url, or --writer http")
    }

    /// The first `count` users' ids and tokens.
    pub(crate) fn users(&self, count: usize) -> anyhow::Result<Vec<(String, String)>> {
        match &self.users {
            Users::Listed(users) if users.len() < count => {
                bail!("--tokens has {} users, and {count} are needed", users.len())
            }
            Users::Listed(users) => Ok(users[..count].to_vec()),
            Users::Anyone => {
                Ok((0..count).map(|user| (user_id(user).to_string(), String::new())).collect())
            }
            Users::Signed(auth) => (0..count)
                .map(|user| {
                    let id = user_id(user);
                    let token = auth::sign(auth, &UserId::uuid(id), TOKEN_LIFETIME)?;
                    Ok((id.to_string(), token))
                })
                .collect(),
        }
    }

    /// One stream of a user, the `index`th of all. `run` chooses the addresses:
    /// where the last run's have been, TIME_WAIT is.
    pub(crate) fn stream(
        &self,
        run: u32,
        index: usize,
        user: usize,
        users: &[(String, String)],
        reads: bool,
    ) -> StreamOrder {
        let (user_id, token) = users.get(user).cloned().unwrap_or_default();
        let user = u32::try_from(user).unwrap_or(u32::MAX);
        StreamOrder { user, user_id, token, source: self.source(run, index), reads }
    }

    /// All of 127.0.0.0/8 is ours, and each address has ports of its own.
    fn source(&self, run: u32, index: usize) -> Option<IpAddr> {
        let is_ours = |ip: IpAddr| ip.is_loopback() && ip.is_ipv4();
        if !self.replicas.iter().all(|replica| is_ours(replica.address.ip())) {
            return None;
        }
        let number = u32::try_from(index / STREAMS_PER_ADDRESS).unwrap_or(0);
        let address = FIRST_ADDRESS + run.wrapping_add(number) % ADDRESSES;
        Some(IpAddr::from(address.to_be_bytes()))
    }
}

fn users(options: &TargetOptions, secret: Option<String>) -> anyhow::Result<Users> {
    if let Some(path) = &options.tokens {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        let users: Option<Vec<_>> = lines.map(user_and_token).collect();
        let users =
            users.with_context(|| format!("{}: USER TOKEN on each line", path.display()))?;
        return Ok(Users::Listed(users));
    }
    let Some(secret) = secret else { return Ok(Users::Anyone) };
    Ok(Users::Signed(Box::new(AuthConfig {
        secret: Some(SigningSecret::parse(&secret)?),
        audiences: options.jwt_audience.iter().cloned().collect(),
        issuers: options.jwt_issuer.iter().cloned().collect(),
        user_claim: options.jwt_user_claim.parse().map_err(anyhow::Error::msg)?,
        ..AuthConfig::default()
    })))
}

fn user_and_token(line: &str) -> Option<(String, String)> {
    let (user, token) = line.trim().split_once(char::is_whitespace)?;
    Some((user.to_owned(), token.trim().to_owned()))
}

fn sink(options: &WriterOptions, database_url: Option<String>) -> anyhow::Result<Option<Sink>> {
    let connections = options.writers;
    Ok(match options.writer {
        WriterKind::Postgres => database_url.map(|url| {
            let insert = options.insert.clone().unwrap_or_else(|| writer::insert(&options.table));
            // SQLAlchemy's name for the driver is in many a DATABASE_URL.
            let url = url.replacen("+asyncpg://", "://", 1).replacen("+psycopg://", "://", 1);
            Sink::Postgres(PostgresWriter { url, insert, connections })
        }),
        WriterKind::Http => {
            let url =
                options.publish_url.as_deref().context("--writer http needs --publish-url")?;
            Some(Sink::Publish(Publisher {
                url: Url::parse(url)?,
                headers: options.publish_header.clone(),
                body: options.publish_body.clone(),
                connections,
            }))
        }
    })
}

/// The same users in every run: what a run leaves in a table is theirs, and can
/// be found and removed.
fn user_id(user: usize) -> Uuid {
    Uuid::from_fields(0x6e67_6c74, 0, 0x4000, &(user as u64 | 0x8000 << 48).to_be_bytes())
}

/// Ids by number, as the writer needs them.
pub(crate) fn ids(users: &[(String, String)]) -> Arc<Vec<String>> {
    Arc::new(users.iter().map(|(id, _)| id.clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_the_same_in_every_run_and_differ_from_each_other() {
        assert_eq!(user_id(7).to_string(), "6e676c74-0000-4000-8000-000000000007");
        assert_ne!(user_id(7), user_id(8));
    }

    #[test]
    fn a_list_of_tokens_has_a_user_and_a_token_on_each_line() {
        let expected = ("u".to_owned(), "t.t.t".to_owned());
        assert_eq!(user_and_token("u  t.t.t "), Some(expected));
        assert_eq!(user_and_token("u"), None);
    }
}
