//! A PostgreSQL server in a temporary directory, gone when its owner is: what
//! `notify-gateway dev` and the tests run on.
//!
//! The server's parent is a small shell that waits for the end of its standard
//! input. However the owning process ends, kill -9 included, the pipe closes,
//! the shell stops the server and removes the directory.

mod nats;

use std::{
    env, fs, io,
    io::Write as _,
    net::TcpListener,
    os::unix::{
        fs::{PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};

use nix::unistd::{Uid, User};
use uuid::Uuid;

pub use nats::Nats;

/// The superuser of a throwaway server.
pub const USER: &str = "postgres";

/// How long a server may take to start; a busy machine takes seconds.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A running server. Dropping it stops the server and removes its directory.
pub struct Postgres {
    binaries: PathBuf,
    directory: PathBuf,
    port: u16,
    password: String,
    account: Option<User>,
    options: Vec<String>,
    process: Option<(Child, ChildStdin)>,
}

impl Postgres {
    /// Makes a cluster and starts its server on a free port of 127.0.0.1.
    /// `options` are settings as `name=value`.
    ///
    /// # Errors
    ///
    /// No PostgreSQL on this machine, or one that does not start.
    pub fn start(options: &[&str]) -> Result<Self, ThrowawayError> {
        let binaries = find_binaries().ok_or(ThrowawayError::NotInstalled)?;
        // PostgreSQL refuses to run as root.
        let account = if Uid::effective().is_root() { Some(unprivileged()?) } else { None };
        let name = format!("notify-gateway-{}", Uuid::new_v4().simple());
        let directory = env::temp_dir().join(name);
        let mut postgres = Self {
            binaries,
            directory,
            port: 0,
            password: Uuid::new_v4().simple().to_string(),
            account,
            options: options.iter().map(|&option| option.to_owned()).collect(),
            process: None,
        };
        postgres.prepare()?;
        postgres.start_server()?;
        Ok(postgres)
    }

    /// The URL of `database` on this server.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    /// The server's data, to be touched only while it is stopped.
    pub fn data_directory(&self) -> PathBuf {
        self.data()
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory of the server's binaries: `psql` is there too.
    pub fn binaries(&self) -> &Path {
        &self.binaries
    }

    /// Stops the server, cutting its connections, as `pg_ctl stop -m fast`
    /// does; the data stays.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn stop(&mut self) -> io::Result<()> {
        match self.process.take() {
            Some((mut child, mut stdin)) => {
                stdin.write_all(b"keep\n")?;
                child.wait().map(|_| ())
            }
            None => Ok(()),
        }
    }

    /// Starts the server again on the same port, after [`Postgres::stop`].
    ///
    /// # Errors
    ///
    /// A server that does not start.
    pub fn start_server(&mut self) -> Result<(), ThrowawayError> {
        // Another process may take a free port between our look and the
        // server's bind: then it is tried again on another.
        for _ in 0..5 {
            let port = if self.port == 0 { free_port()? } else { self.port };
            match self.start_on(port) {
                Ok(()) => {
                    self.port = port;
                    return Ok(());
                }
                Err(ThrowawayError::PortTaken) => {}
                Err(error) => return Err(error),
            }
        }
        Err(ThrowawayError::PortTaken)
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    fn prepare(&self) -> Result<(), ThrowawayError> {
        fs::create_dir(&self.directory)?;
        fs::set_permissions(&self.directory, fs::Permissions::from_mode(0o700))?;
        let password_file = self.directory.join("password");
        let mut file = fs::File::create(&password_file)?;
        file.write_all(self.password.as_bytes())?;
        fs::set_permissions(&password_file, fs::Permissions::from_mode(0o600))?;
        if let Some(account) = &self.account {
            let (uid, gid) = (Some(account.uid.as_raw()), Some(account.gid.as_raw()));
            chown(&self.directory, uid, gid)?;
            chown(&password_file, uid, gid)?;
        }
        Ok(())
    }

    fn start_on(&mut self, port: u16) -> Result<(), ThrowawayError> {
        // INT is Postgres' fast shutdown. A line on the pipe is a deliberate
        // stop, after which the data is wanted again; its bare end means that
        // the owner is gone.
        // A cluster that is not there yet is made first: the guard outlives an
        // owner that is gone meanwhile.
        const GUARD: &str = r#"
            directory=$1; initdb=$2; user=$3; shift 3
            [ -d "$directory/data" ] || "$initdb" --pgdata "$directory/data" \
                --pwfile "$directory/password" --username "$user" --auth scram-sha-256 \
                --encoding UTF8 --locale C --no-sync >"$directory/log" 2>&1 || exit 1
            "$@" >"$directory/log" 2>&1 &
            server=$!
            read -r keep
            kill -INT "$server"
            wait "$server"
            [ "$keep" ] || rm -rf "$directory""#;
        // The last run's line would be taken for this one's.
        let log = self.log();
        let _gone = fs::remove_file(&log);
        let mut command = self.command(PathBuf::from("/bin/sh"));
        command.args(["-c", GUARD, "guard"]).arg(&self.directory);
        command.arg(self.binaries.join("initdb")).arg(USER);
        command.arg(self.binaries.join("postgres"));
        command.arg("-D").arg(self.data()).args(["-p", &port.to_string()]);
        let own =
            ["listen_addresses=127.0.0.1", "unix_socket_directories=", "logging_collector=off"];
        for option in own.into_iter().chain(self.options.iter().map(String::as_str)) {
            command.args(["-c", option]);
        }
        // Ctrl-C goes to the terminal's whole process group: the server must
        // not die of it before the gateway has said goodbye.
        command.process_group(0);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        let stdin = child.stdin.take().ok_or_else(|| io::Error::other("no pipe to the server"))?;
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let said = fs::read_to_string(&log).unwrap_or_default();
            // "connections", or on a standby "read-only connections".
            if said.contains("database system is ready to accept ") {
                self.process = Some((child, stdin));
                return Ok(());
            }
            // A client that is there too early is told FATAL as well.
            let is_fatal = |line: &str| {
                line.contains("FATAL:") && !line.contains("FATAL:  the database system is ")
            };
            // The guard ends by itself only where there is no cluster.
            let failed = said.lines().any(is_fatal) || child.try_wait()?.is_some();
            if failed || Instant::now() > deadline {
                drop(stdin);
                child.wait()?;
                let taken = said.contains("Address already in use");
                return Err(if taken && self.port == 0 {
                    ThrowawayError::PortTaken
                } else {
                    ThrowawayError::Start(said)
                });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn command(&self, program: PathBuf) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.directory).env_clear().env("LC_ALL", "C");
        command.env("PATH", env::var_os("PATH").unwrap_or_default());
        if let Some(account) = &self.account {
            command.uid(account.uid.as_raw()).gid(account.gid.as_raw());
        }
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        match self.process.take() {
            Some((mut child, stdin)) => {
                drop(stdin);
                let _ended = child.wait();
            }
            None => {
                let _gone = fs::remove_dir_all(&self.directory);
            }
        }
    }
}

/// The directory of PostgreSQL's server binaries: the one that `PGBIN` names, and no
/// other; without it, the newest version on the PATH, where Debian puts them, or where
/// Homebrew does.
pub fn find_binaries() -> Option<PathBuf> {
    // A directory that lacks a program must not be passed over: the tests would run on
    // another version than the one they were asked for.
    if let Some(named) = env::var_os("PGBIN") {
        return complete(&PathBuf::from(named));
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let mut candidates: Vec<PathBuf> = env::split_paths(&path).collect();
    for (parent, prefix) in [
        ("/usr/lib/postgresql", ""),
        ("/opt/homebrew/opt", "postgresql@"),
        ("/usr/local/opt", "postgresql@"),
    ] {
        let entries = fs::read_dir(parent).into_iter().flatten().flatten();
        let mut versions: Vec<(u32, PathBuf)> = entries
            .filter_map(|entry| {
                let version = entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()?;
                Some((version, entry.path().join("bin")))
            })
            .collect();
        versions.sort();
        candidates.extend(versions.into_iter().rev().map(|(_, path)| path));
    }
    candidates.iter().find_map(|candidate| complete(candidate))
}

/// The directory that `candidate` leads to, if all programs are there.
fn complete(candidate: &Path) -> Option<PathBuf> {
    // A link to initdb alone stands on some PATHs; beside its target are
    // the others.
    let initdb = candidate.join("initdb").canonicalize().ok()?;
    let bin = initdb.parent()?;
    let is_complete = ["postgres", "psql"].iter().all(|name| bin.join(name).exists());
    is_complete.then(|| bin.to_owned())
}

/// The account root runs the server under.
fn unprivileged() -> Result<User, ThrowawayError> {
    ["postgres", "nobody"]
        .into_iter()
        .find_map(|name| User::from_name(name).ok().flatten())
        .ok_or(ThrowawayError::NoAccount)
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Why there is no throwaway server.
#[derive(Debug, thiserror::Error)]
pub enum ThrowawayError {
    /// No server binaries on this machine.
    #[error(
        "PostgreSQL's server (initdb, postgres, psql) is not installed, or not in the directory \
         that PGBIN names"
    )]
    NotInstalled,
    /// We are root and there is no account to run the server under.
    #[error("PostgreSQL does not run as root, and there is no account 'postgres' or 'nobody'")]
    NoAccount,
    /// The server did not start.
    #[error("PostgreSQL did not start: {0}")]
    Start(String),
    /// No port was free for long enough.
    #[error("no free port for PostgreSQL")]
    PortTaken,
    /// The system.
    #[error("cannot run PostgreSQL: {0}")]
    Io(#[from] io::Error),
}
