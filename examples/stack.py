"""What an example runs on: PostgreSQL, the gateway, an application, a reverse proxy.

Real programs, each in a process group of its own, on free ports of 127.0.0.1, with all their files
in one temporary directory. Whatever ends the Python process, they end with it: a guard beside each
of them waits for the end of its standard input.
"""

from __future__ import annotations

import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

REPOSITORY = Path(__file__).resolve().parent.parent

# Starts a program, says its process id, and stops it when its own standard input ends: by the
# signal $1, and by force after 20 s, with all that it has started.
GUARD = """
stop=$1; shift
set -m
"$@" </dev/null >&2 & program=$!
set +m
echo "$program"; exec >&-
{ read -r _; kill -"$stop" "$program"; for _ in $(seq 200); do
  kill -0 "$program" || break; sleep 0.1; done; kill -KILL -- "-$program"; } <&0 2>/dev/null &
wait "$program"
"""


S = TypeVar("S", bound="Stack")


ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class NotThere(Exception):
    """What is needed, and this machine does not have."""


def find_program(name: str, hint: str) -> str:
    """The path of a server program, which need not be on the PATH of an ordinary user."""
    places = f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin:/opt/homebrew/bin"
    found = shutil.which(name, path=places)
    if found is None:
        raise NotThere(f"{name} is not there; for example: {hint}")
    return found


def postgres_binaries() -> Path:
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    servers = [
        *Path("/usr/lib/postgresql").glob("*/bin/initdb"),
        *Path("/opt/homebrew/opt").glob("postgresql@*/bin/initdb"),
    ]
    versions = [server.parent for server in servers]
    if not versions:
        raise NotThere("PostgreSQL's server is not there; for example: apt-get install postgresql")
    return max(versions, key=lambda place: [int(part) for part in place.parent.name.split("@")[-1].split(".")])


def gateway_binary() -> str:
    given = os.environ.get("NOTIFY_GATEWAY_BIN")
    places = [given] if given else [REPOSITORY / f"target/{kind}/notify-gateway" for kind in ("release", "debug")]
    there = [Path(place) for place in places if Path(place).exists()]
    if not there:
        raise NotThere("the gateway is not built: cargo build --release")
    return str(max(there, key=lambda place: place.stat().st_mtime))


def free_port() -> int:
    """One below those that the kernel gives to outgoing connections, which could take it while a
    server is away."""
    while True:
        port = random.randrange(15_000, 32_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port


def port_or_free(port: int | None) -> int:
    """The port that was asked for, if nothing listens there yet."""
    for address in ("127.0.0.1", "::1") if port else ():
        try:
            socket.create_connection((address, port), timeout=1).close()
        except OSError:
            continue
        raise NotThere(f"port {port} is taken; choose another one")
    return port or free_port()


def eventually(what: str, condition: Callable[[], object], seconds: float = 20) -> None:
    """Waits until `condition` holds, or fails saying `what` did not come."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.02)


#: Not through a proxy that the environment names.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def answers(url: str) -> bool:
    """Whether something answers there, whatever it says."""
    try:
        DIRECT.open(url, timeout=2).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


class Program:
    """A program that runs until it is stopped, with its output in a file."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        directory: Path,
        environment: Mapping[str, str] | None = None,
        working_directory: Path | None = None,
        user: str | None = None,
        stop_by: str = "TERM",
        is_ready: Callable[[], object],
    ) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        self._command = command
        self._environment = {**os.environ, **(environment or {})}
        self._working_directory = working_directory or directory
        self._user = user
        self._stop_by = stop_by
        self._is_ready = is_ready
        self._guard: subprocess.Popen[bytes] | None = None
        #: Of the program itself, while it runs.
        self.pid = 0

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        """Starts it, with these variables besides, and waits until it is ready."""
        assert self._guard is None, f"{self.name} runs already"
        with self.log.open("ab") as log:
            self._guard = subprocess.Popen(
                ["bash", "-c", GUARD, "guard", self._stop_by, *self._command],
                env={**self._environment, **(environment or {})},
                cwd=self._working_directory,
                user=self._user,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                # Ctrl-C in the terminal is for the one who started all this, who then stops it in order.
                start_new_session=True,
            )
        with self._guard.stdout as said:
            self.pid = int(said.readline())

        def ready() -> object:
            if self.has_ended():
                raise AssertionError(f"{self.name} has ended:\n{self.said()}")
            return self._is_ready()

        try:
            eventually(self.name, ready, seconds=60)
        except BaseException:
            self.stop()
            raise

    def has_ended(self) -> bool:
        return self._guard is None or self._guard.poll() is not None

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""

    def stop(self) -> None:
        """Stops it as an operator would, and waits for its end."""
        if self._guard is None:
            return
        guard, self._guard = self._guard, None
        assert guard.stdin is not None
        guard.stdin.close()
        guard.wait(timeout=30)

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the program itself."""
        os.kill(self.pid, number)


class Postgres(Program):
    """A server whose superuser is `postgres`."""

    def __init__(self, directory: Path, settings: Sequence[str] = ()) -> None:
        self.port = free_port()
        self.binaries = postgres_binaries()
        self._data = directory / "postgres"
        self._data.mkdir()
        # PostgreSQL refuses to run as root.
        user = "postgres" if os.getuid() == 0 else None
        if user is not None:
            shutil.chown(self._data, user, pwd.getpwnam(user).pw_gid)
        password_file = secret_file(directory, "postgres-password")
        self._password = password_file.read_text()
        if user is not None:
            shutil.chown(password_file, user)
        initdb = [self.binaries / "initdb", "-D", self._data, "-U", "postgres", "--pwfile", password_file]
        initdb += ["-A", "scram-sha-256", "-E", "UTF8", "--locale", "C", "--no-sync"]
        subprocess.run(initdb, user=user, cwd="/", check=True, stdout=subprocess.DEVNULL)
        command = [str(self.binaries / "postgres"), "-D", str(self._data), "-p", str(self.port)]
        for setting in ["listen_addresses=127.0.0.1", "unix_socket_directories=", *settings]:
            command += ["-c", setting]
        super().__init__(
            "postgres",
            command,
            directory=directory,
            working_directory=self._data,
            user=user,
            stop_by="INT",
            is_ready=self._accepts,
        )

    def url(self, database: str = "postgres", user: str = "postgres", driver: str = "postgres") -> str:
        password = self._password if user == "postgres" else user
        return f"{driver}://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def _accepts(self) -> bool:
        probe = [self.binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(probe).returncode == 0

    def psql(self, sql: str, database: str = "postgres", user: str = "postgres") -> str:
        """What a DBA types; what psql answers, without headings."""
        command = [self.binaries / "psql", "--no-psqlrc", "-qAt", "-v", "ON_ERROR_STOP=1"]
        command += ["-d", self.url(database, user), "-f", "-"]
        return subprocess.run(command, input=sql, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


class Gateway(Program):
    """The gateway beside the application's database."""

    def __init__(self, directory: Path, settings: Mapping[str, str]) -> None:
        self.port = free_port()
        self.admin_port = free_port()
        self.addresses = {
            "GATEWAY_BIND": f"127.0.0.1:{self.port}",
            "GATEWAY_ADMIN_BIND": f"127.0.0.1:{self.admin_port}",
        }
        super().__init__(
            "gateway",
            [gateway_binary()],
            directory=directory,
            environment={**self.addresses, **settings},
            is_ready=lambda: self._answers_with("readyz", 200),
        )

    def _answers_with(self, path: str, status: int) -> bool:
        try:
            with DIRECT.open(f"http://127.0.0.1:{self.admin_port}/{path}", timeout=5) as answer:
                return answer.status == status
        except OSError:
            return False

    def metrics(self) -> dict[str, float]:
        """The samples of /metrics by name and labels, as they stand there."""
        url = f"http://127.0.0.1:{self.admin_port}/metrics"
        with DIRECT.open(url, timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        samples = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in samples}


def with_own_places(text: str, replacements: Mapping[str, str]) -> str:
    """A configuration whose examples of addresses and directories are this machine's."""
    for example, own in replacements.items():
        text = text.replace(example, own)
    return text


class Nginx(Program):
    """nginx with the `server` block of a file, and what lies beside it."""

    def __init__(self, directory: Path, server: Path, replacements: Mapping[str, str], port: int) -> None:
        self.port = port
        self._place = directory / "nginx"
        self._server = server
        self._replacements = replacements
        self._place.mkdir()
        self.write_configuration()
        program = find_program("nginx", "apt-get install nginx-light")
        super().__init__(
            "nginx",
            [program, "-p", str(self._place), "-c", "nginx.conf", "-e", "error.log"],
            directory=directory,
            is_ready=lambda: answers(f"http://127.0.0.1:{port}/"),
        )

    def write_configuration(self) -> None:
        for file in self._server.parent.glob("*.conf"):
            text = with_own_places(file.read_text(), self._replacements)
            (self._place / file.name).write_text(text)
        temporary = "".join(
            f"{kind}_temp_path {kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        user = "user root;" if os.getuid() == 0 else ""
        (self._place / "nginx.conf").write_text(
            f"daemon off; {user} pid nginx.pid; worker_processes 1;\n"
            f"events {{ worker_connections 8192; }}\nworker_rlimit_nofile 20000;\n"
            f"http {{\ninclude /etc/nginx/mime.types; access_log access.log;\n{temporary}"
            f"include {self._server.name};\n}}\n"
        )

    def reload(self) -> None:
        """As `nginx -s reload`: new workers, and the old ones end with their last connection."""
        self.signal(signal.SIGHUP)


class Caddy(Program):
    """Caddy with a Caddyfile, without TLS and without its own admin port."""

    def __init__(self, directory: Path, caddyfile: Path, replacements: Mapping[str, str], port: int) -> None:
        self.port = port
        own = directory / "Caddyfile"
        own.write_text("{\n\tadmin off\n\tgrace_period 1s\n}\n" + with_own_places(caddyfile.read_text(), replacements))
        program = find_program("caddy", "apt-get install caddy")
        super().__init__(
            "caddy",
            [program, "run", "--adapter", "caddyfile", "--config", str(own)],
            directory=directory,
            environment={"HOME": str(directory)},
            is_ready=lambda: answers(f"http://127.0.0.1:{port}/"),
        )


def secret_file(directory: Path, name: str) -> Path:
    """A new secret, which nobody else on the machine may read."""
    file = directory / name
    file.touch(mode=0o600)
    file.write_text(secrets.token_hex(32))
    return file


def application_role(application: str) -> str:
    """The application's own role, and its database."""
    return f"""
        CREATE ROLE {application} LOGIN CREATEDB PASSWORD '{application}';
        CREATE DATABASE {application} OWNER {application};
    """


def gateway_roles(application: str) -> str:
    """The gateway's roles, as step 1 of docs/fastapi.md has them."""
    return f"""
        CREATE ROLE notify_gateway NOLOGIN;
        CREATE ROLE notify_gateway_owner NOLOGIN;
        CREATE ROLE bell LOGIN PASSWORD 'bell' IN ROLE notify_gateway;
        GRANT notify_gateway_owner TO {application};
    """


class Stack:
    """An application with everything around it; each part can be stopped and started by itself."""

    #: Of the application's role, and of its database.
    name: str
    url: str
    app_directory: Path
    app_environment: dict[str, str]
    postgres: Postgres
    app: Program
    gateway: Gateway
    proxy: Nginx | Caddy

    def prepare(self) -> None:
        """Makes what is in the database before the application runs."""
        raise NotImplementedError

    @property
    def parts(self) -> list[Program]:
        return [self.postgres, self.app, self.gateway, self.proxy]

    def start(self) -> None:
        self.postgres.start()
        self.postgres.psql(application_role(self.name) + gateway_roles(self.name))
        self.prepare()
        for part in self.parts[1:]:
            part.start()

    def stop(self) -> None:
        for part in reversed(self.parts):
            part.stop()

    def python(self, *arguments: str, **settings: str) -> str:
        """Runs Python as the application has it, with these settings besides, and returns what it prints."""
        environment = {**os.environ, **self.app_environment, **settings}
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=self.app_directory, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(arguments)}:\n{done.stdout}{done.stderr}"
        return done.stdout


@contextmanager
def running(make: Callable[[Path], S]) -> Iterator[S]:
    """The stack that `make` makes in a directory, started; both are gone afterwards."""
    # The account of PostgreSQL may enter the directory.
    with tempfile.TemporaryDirectory(prefix="notify-gateway-example-") as directory:
        os.chmod(directory, 0o755)
        stack = make(Path(directory))
        try:
            stack.start()
            yield stack
        finally:
            # A second Ctrl-C does not leave half of it behind.
            before = [signal.signal(ending, signal.SIG_IGN) for ending in ENDINGS]
            stack.stop()
            for ending, handler in zip(ENDINGS, before, strict=True):
                signal.signal(ending, handler)


def run_until_ctrl_c(make: Callable[[Path], S], explain: Callable[[S], str]) -> None:
    """Runs a stack in a terminal, and says what one can do with it."""
    # Also where a shell has it ignore Ctrl-C, as it does in the background.
    for ending in ENDINGS:
        signal.signal(ending, signal.default_int_handler)
    print("starting PostgreSQL, the application, the gateway and the proxy …", flush=True)
    try:
        with running(make) as stack:
            print(
                f"\npage:  {stack.url}/\n{explain(stack)}"
                f"logs:  {stack.app.log.parent}\n\nCtrl-C stops it and removes everything.",
                flush=True,
            )
            threading.Event().wait()
    except KeyboardInterrupt:
        print("\nstopped, and removed")
    except NotThere as missing:
        sys.exit(str(missing))
