"""How each server is started, and what it is."""

import contextlib
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
from dataclasses import dataclass, field

BENCH = pathlib.Path(__file__).resolve().parent.parent
ROOT = BENCH.parent
SECRET = "a secret for measurements, of no worth to anybody"
CHANNEL = "notifications"
STREAM = "http://127.0.0.1:{port}/api/notifications/stream"
VENV = BENCH / "target/venv"
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


def peer(name):
    return str(BENCH / "target/release" / name)


def fastapi(**environment):
    return Server(
        [[str(VENV / "bin/uvicorn"), "--app-dir", str(BENCH / "fastapi"), "app:app",
          "--host", "127.0.0.1", "--port", "{port}", "--loop", "uvloop", "--http", "httptools",
          "--backlog", "4096", "--no-access-log", "--log-level", "warning"]],
        environment={"DATABASE_URL": "{database}", "CHANNEL": CHANNEL, "JWT_SECRET": SECRET,
                     "HEARTBEAT_SECONDS": "{heartbeat}", **environment},
    )


SERVERS = {
    "floor": Server([[peer("floor"), BIND, "{database}", CHANNEL, "{heartbeat}"]]),
    "gateway": Server(
        [[str(ROOT / "target/release/notify-gateway"), "serve", "--bind", BIND,
          "--admin-bind", "127.0.0.1:0", "--heartbeat", "{heartbeat}s",
          "--connect-rate", "0", "--user-connect-rate", "0", "--max-streams-per-user", "100000"]],
        environment={"DATABASE_URL": "{database}", "JWT_SECRET": SECRET},
    ),
    "naive-axum": Server(
        [[peer("naive_axum"), BIND, "{database}", CHANNEL, "{heartbeat}", SECRET]]
    ),
    "fastapi": fastapi(),
    "fastapi-polling": fastapi(POLL_SECONDS="1"),
    "nchan": Server(
        [[str(NGINX), "-c", "{directory}/nginx.conf", "-p", "{directory}"],
         [peer("nchan_bridge"), "{database}", CHANNEL, BIND]],
        url="http://127.0.0.1:{port}/sub/{{user}}",
        client=("--header", "", "--opened-event", ""),
        files={"nginx.conf": BENCH / "nchan/nginx.conf"},
    ),
}


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
                raise RuntimeError(f"{child.args[0]} ended at its start with {child.returncode}")

    def _start(self, database, heartbeat, directory):
        values = {"port": free_port(), "database": database, "heartbeat": heartbeat,
                  "directory": directory}
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
    return re.sub(r"\{(port|database|heartbeat|directory)\}", lambda m: str(values[m[1]]), str(text))


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
    if name.startswith("fastapi") and not ensure_venv():
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

    tell = {
        "floor": lambda: "a single thread of Rust, epoll by tokio; " + said("rustc", "--version"),
        "gateway": lambda: "commit " + said("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
        "naive-axum": lambda: ", ".join(map(crate, ("axum", "sqlx", "jsonwebtoken", "tokio"))),
        "fastapi": lambda: f"Python {sys.version.split()[0]}, {packages()}",
        "fastapi-polling": lambda: "the same, each stream asks the table every second",
        "nchan": lambda: said(str(NGINX), "-v").removeprefix("nginx version: ") + ", nchan "
        + said("dpkg-query", "--show", "--showformat", "${Version}", "libnginx-mod-nchan"),
    }
    return [f"{name}: {tell[name]()}" for name in names]
