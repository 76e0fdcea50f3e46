"""How each server is started, and what it is."""

import contextlib
import hashlib
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace

from .databases import CHANNEL

BENCH = pathlib.Path(__file__).resolve().parent.parent
ROOT = BENCH.parent
SECRET = "a secret for measurements, of no worth to anybody"
STREAM = "http://127.0.0.1:{port}/api/notifications/stream"
VENV = BENCH / "target/venv"
BIN = BENCH / "target/bin"
NGINX = pathlib.Path("/usr/sbin/nginx")
NCHAN = pathlib.Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
BIND = "127.0.0.1:{port}"


@dataclass(frozen=True)
class Server:
    """Commands in which {port}, {heartbeat}, {database} and {directory} are
    filled in; the first serves the streams, the others help it."""

    commands: list
    environment: dict = field(default_factory=dict)
    url: str = STREAM
    # Of notify-loadtest.
    client: tuple = ("--jwt-secret", SECRET)
    # Files written before the start: name → template.
    files: dict = field(default_factory=dict)
    # Of its database, in databases.py: which trigger there is.
    database: str = "plain"


def peer(name):
    return str(BENCH / "target/release" / name)


def gateway(*arguments):
    return Server(
        [[str(ROOT / "target/release/notify-gateway"), "serve", "--bind", BIND,
          "--admin-bind", "127.0.0.1:0", "--heartbeat", "{heartbeat}s",
          "--connect-rate", "0", "--user-connect-rate", "0", "--max-streams-per-user", "100000",
          *arguments]],
        environment={"DATABASE_URL": "{database}", "JWT_SECRET": SECRET},
        database="gateway",
    )


def uvicorn(directory, database, **environment):
    return Server(
        [[str(VENV / "bin/uvicorn"), "--app-dir", str(BENCH / directory), "app:app",
          "--host", "127.0.0.1", "--port", "{port}", "--loop", "uvloop", "--http", "httptools",
          "--backlog", "4096", "--no-access-log", "--log-level", "warning"]],
        environment={"DATABASE_URL": "{database}", "CHANNEL": CHANNEL, "JWT_SECRET": SECRET,
                     "HEARTBEAT_SECONDS": "{heartbeat}", **environment},
        database=database,
    )


FLOOR = [peer("floor"), BIND, "{database}", CHANNEL, "{heartbeat}"]
# Without an event that says so, a stream is open with the answer's head.
BY_HEAD = ("--opened-event", "")

SERVERS = {
    "floor": Server([FLOOR]),
    "floor-gather": Server([[*FLOOR, "gather"]]),
    "gateway": gateway(),
    "gateway-loud": gateway("--quiet", "never"),
    "gateway-2": gateway("--threads", "2"),
    "naive-axum": Server(
        [[peer("naive_axum"), BIND, "{database}", CHANNEL, "{heartbeat}", SECRET]]
    ),
    "nchan": Server(
        [[str(NGINX), "-c", "{directory}/nginx.conf", "-p", "{directory}"],
         [peer("nchan_bridge"), "{database}", CHANNEL, BIND]],
        url="http://127.0.0.1:{port}/sub/{{user}}",
        client=("--header", "", *BY_HEAD),
        files={"nginx.conf": BENCH / "nchan/nginx.conf"},
    ),
    "mercure": Server(
        [[str(BIN / "mercure"), BIND, "{database}", CHANNEL, "{heartbeat}"]],
        url="http://127.0.0.1:{port}/.well-known/mercure?topic={{user}}",
        client=("--header", "", *BY_HEAD),
    ),
    # Its own consumer of an outbox, rather than a program that LISTENs and publishes by
    # HTTP: that is how its documentation brings rows of Postgres to it, nothing is lost
    # between the two, and there is no second program. A stream that comes back begins
    # with what is new: to catch up, a client would send the place in its history along with
    # the connect, and not in Last-Event-ID.
    "centrifugo": Server(
        [[str(BIN / "centrifugo"), "--config", "{directory}/config.json"]],
        url="http://127.0.0.1:{port}/connection/uni_sse?cf_connect=%7B%22token%22%3A%22{{token}}%22%7D",
        # Its events have no name, its pings and its answer to the connect neither.
        client=("--jwt-secret", SECRET, "--header", "", *BY_HEAD, "--notification-event", "message"),
        files={"config.json": BENCH / "centrifugo/config.json"},
        database="outbox",
    ),
    "fastapi": uvicorn("fastapi", "plain"),
    "pg-sse": replace(uvicorn("pgsse", "pg-sse"), client=("--jwt-secret", SECRET, *BY_HEAD)),
    "fastapi-polling": uvicorn("fastapi", "none", POLL_SECONDS="1"),
}
FLOORS = ("floor", "floor-gather")
GATEWAYS = ("gateway", "gateway-loud", "gateway-2")
PEERS = tuple(name for name in SERVERS if name not in FLOORS + GATEWAYS)


class Running:
    """One or more processes of a server."""

    def __init__(self, server):
        self.server = server
        self.children = []  # of each replica, its commands' processes
        self.urls = []

    def start(self, database, heartbeat, replicas, directory):
        """Until all of them are ready."""
        for number in range(replicas):
            at = directory / str(number)
            at.mkdir()
            self._start(database, heartbeat, at)
        # What runs beside the port has to be there too: LISTEN, the first probe.
        time.sleep(1)
        for child in self._all():
            if child.poll() is not None:
                said = "".join(path.read_text()[-500:] for path in directory.glob("*/stderr"))
                raise RuntimeError(f"{child.args[0]} ended at its start: {child.returncode} {said}")

    def _start(self, database, heartbeat, directory):
        values = {"port": free_port(), "database": database, "heartbeat": heartbeat,
                  "directory": directory, "secret": SECRET}
        for name, template in self.server.files.items():
            (directory / name).write_text(filled(template.read_text(), values))
        environment = {
            **os.environ,
            **{name: filled(value, values) for name, value in self.server.environment.items()},
        }
        children = []
        self.children.append(children)
        for command in self.server.commands:
            children.append(subprocess.Popen(
                [filled(part, values) for part in command],
                env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=(directory / "stderr").open("ab"),
            ))
            wait_for_port(values["port"])
        self.urls.append(filled(self.server.url, values).replace("{{", "{").replace("}}", "}"))

    def pids(self):
        """Of everything, what they have started included."""
        return [pid for child in self._all() for pid in family(child.pid)]

    def helpers_cpu_s(self):
        """CPU of what is not the front, up to now."""
        helpers = [child for children in self.children for child in children[1:]]
        return sum(cpu_s(pid) for child in helpers for pid in family(child.pid))

    def stop(self):
        for child in self._all():
            child.send_signal(signal.SIGTERM)
        for child in self._all():
            try:
                child.wait(timeout=15)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def _all(self):
        return [child for children in self.children for child in children]


@contextlib.contextmanager
def running(name, database, heartbeat, replicas=1):
    with tempfile.TemporaryDirectory(prefix="notify-bench-") as directory:
        # nginx' worker is another user.
        os.chmod(directory, 0o755)
        processes = Running(SERVERS[name])
        try:
            processes.start(database, heartbeat, replicas, pathlib.Path(directory))
            yield processes
        finally:
            processes.stop()


def filled(text, values):
    """`text` with {name} replaced: by hand, because nginx has braces of its own."""
    return re.sub(r"\{(port|database|heartbeat|directory|secret)\}", lambda m: str(values[m[1]]), str(text))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for_port(port):
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError("the server does not listen after ten seconds")


def family(pid):
    """A process and its children."""
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in family(int(child)))]


def cpu_s(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def raise_file_limit():
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def missing(name):
    """Why a server cannot be measured here; none where it can."""
    if name == "nchan" and not (NGINX.exists() and NCHAN.exists()):
        return "nginx with nchan is not installed (Debian: apt-get install nginx-light libnginx-mod-nchan)"
    if name in ("centrifugo", "mercure") and not (BIN / name).exists():
        return f"{name} could not be built (it needs Go and its module proxy)"
    if name in ("fastapi", "fastapi-polling", "pg-sse") and not ensure_venv():
        return f"Python packages cannot be installed into {VENV.relative_to(ROOT)}"
    return None


def ensure_venv():
    wanted = BENCH / "fastapi/requirements.txt"
    stamp = VENV / "requirements.txt"
    if stamp.exists() and stamp.read_text() == wanted.read_text():
        return True
    commands = [
        [sys.executable, "-m", "venv", str(VENV)],
        [str(VENV / "bin/pip"), "install", "--quiet", "--disable-pip-version-check",
         "--requirement", str(wanted)],
    ]
    if any(subprocess.run(command, check=False).returncode for command in commands):
        return False
    shutil.copy(wanted, stamp)
    return True


def versions(names):
    """What each of the servers is, a line for each."""

    def said(*command):
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            return (done.stdout or done.stderr).strip()
        except (OSError, subprocess.CalledProcessError):
            return "?"

    locked = (BENCH / "Cargo.lock").read_text()

    def crate(name):
        # The newest, where a dependency holds an older one as well.
        return name + " " + re.findall(rf'name = "{name}"\nversion = "([^"]+)"', locked)[-1]

    def packages():
        pins = (BENCH / "fastapi/requirements.txt").read_text().split()
        return ", ".join(pin.replace("==", " ") for pin in pins)

    def package(name):
        return re.search(rf"(?mi)^{re.escape(name)}==(\S+)", requirements)[1]

    def module(binary, path):
        found = re.search(rf"\s{re.escape(path)}\s+(v\S+)", said("go", "version", "-m", str(BIN / binary)))
        return found[1] if found else "?"

    requirements = (BENCH / "fastapi/requirements.txt").read_text()
    go = said("go", "version").removeprefix("go version ")
    python = f"Python {sys.version.split()[0]}"
    tell = {
        "floor": lambda: "a single thread of Rust, epoll by tokio, one write a row and stream; "
        + said("rustc", "--version"),
        "floor-gather": lambda: "the floor, but one write for all that can be read at once",
        "gateway": lambda: f"commit {sources()}, defaults (one thread, `--quiet auto`)",
        "gateway-loud": lambda: "the same with `--quiet never`: each transaction notifies, as for peers",
        "gateway-2": lambda: "the same with `--threads 2`",
        "naive-axum": lambda: "an afternoon's work: " + ", ".join(map(crate, ("axum", "sqlx", "jsonwebtoken", "tokio"))),
        "nchan": lambda: said(str(NGINX), "-v").removeprefix("nginx version: ") + ", nchan "
        + said("dpkg-query", "--show", "--showformat", "${Version}", "libnginx-mod-nchan")
        + "; a program beside it LISTENs and publishes; verifies no token",
        "mercure": lambda: "github.com/dunglas/mercure " + module("mercure", "github.com/dunglas/mercure")
        + f" as a library, LISTENs in the same program; verifies no token; {go}",
        "centrifugo": lambda: module("centrifugo", "github.com/centrifugal/centrifugo/v6")
        + f", its own consumer of an outbox in Postgres, `uni_sse`; {go}",
        "fastapi": lambda: f"{python}, " + ", ".join(
            f"{name} {package(name)}" for name in ("fastapi", "sse-starlette", "uvicorn", "uvloop", "asyncpg")
        ),
        "pg-sse": lambda: f"{python}, pg-sse {package('pg-sse')} with FastAPI; each event is read from the table",
        "fastapi-polling": lambda: "FastAPI; each stream asks the table every second",
    }
    return [f"{name}: {tell[name]()}" for name in names]


def sources():
    """The commit that what is measured was built from: the last that touched it."""
    paths = ("gateway", "loadtest", "schema.sql", "Cargo.lock", "bench/src", "bench/Cargo.lock",
             "bench/fastapi", "bench/pgsse", "bench/nchan", "bench/centrifugo", "bench/mercure",
             "bench/ensure-peers", "bench/peers/databases.py")

    def git(*arguments):
        command = ["git", "-C", str(ROOT), *arguments, "--", *paths]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    commit = git("log", "-1", "--format=%h")
    changes = git("diff", "HEAD")
    if not changes:
        return commit
    return f"{commit}-dirty-{hashlib.sha256(changes.encode()).hexdigest()[:8]}"
