"""What the trigger costs those who write: interleaved rounds, medians, ratios to no trigger.

    make bench-writers                              # all of it, some twenty minutes
    make bench-writers WRITERS="--rounds 3 --seconds 2 --gateways 1"

Everything runs on this machine, on a Postgres of its own (fsync on, and once more with a
flush slowed down by commit_delay). A ratio within one run says something; a number alone
says nothing. The forms:

    none          the trigger is disabled
    notify        no log: each row by NOTIFY, as a trigger of one's own would do it
    row           the log; the first event of a transaction by NOTIFY
    ring          the log; NOTIFY says that there is something
    never         the log alone
    auto          as row, but quiet under load (--quiet auto)
    always        as row, but always quiet

Each gateway has one stream open, of the user whose rows they are. The ratios of the times
to a client are to `row`.
"""

import argparse
import json
import math
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import time

BENCH = pathlib.Path(__file__).resolve().parent
ROOT = BENCH.parent
FORMS = ["none", "notify", "row", "ring", "never", "auto", "always"]
RATE = 200  # transactions a second, below what makes it quiet
USER = "11111111-2222-3333-4444-555555555555"
INSERT = f"INSERT INTO notifications (user_id, title, message) VALUES ('{USER}', 'hello', 'world')"
BULK = (
    "INSERT INTO notifications (user_id, title, message) "
    f"SELECT '{USER}', n, 'world' FROM generate_series(1, %d) n"
)
SETUP = """
CREATE FUNCTION notify_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_notify('notifications', row_to_json(NEW)::text); RETURN NULL; END $$;
CREATE TRIGGER notify_row AFTER INSERT ON notifications FOR EACH ROW EXECUTE FUNCTION notify_row();
"""


class Postgres:
    def __init__(self):
        binary = BENCH / "target/release/throwaway_postgres"
        self.guard = subprocess.Popen(
            [binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.about = json.loads(self.guard.stdout.readline() or sys.exit("there is no Postgres"))
        self.url = self.about["url"]
        self.sql(SETUP)

    def sql(self, sql):
        command = [self.about["psql"], "-qAtX", "-v", "ON_ERROR_STOP=1", self.url, "-c", sql]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def form(self, form):
        ours, plain = '"00_notify_gateway"', "notify_row"
        has_log = form not in ("none", "notify")
        if has_log:
            ring = "row" if form in ("auto", "always") else form
            self.sql(
                "SELECT notify_gateway.watch('notifications', w.user_id, w.row_id, w.event, w.data,"
                f" w.condition, '{ring}') FROM notify_gateway.watch_entry w"
            )
        state = {True: "ENABLE ALWAYS", False: "DISABLE"}
        self.sql(
            f"ALTER TABLE notifications {state[has_log]} TRIGGER {ours},"
            f" {state[form == 'notify']} TRIGGER {plain};"
            " TRUNCATE notifications, notify_gateway.event"
        )
        self.sql("CHECKPOINT")

    def close(self):
        self.guard.stdin.close()
        self.guard.wait()


class Gateways:
    """So many of them, each with a stream that somebody reads. With the URL of a relay they are
    edges, and there is a source besides."""

    def __init__(self, postgres, count, form, relay=None):
        quiet = form if form in ("auto", "always") else "never"
        binary = ROOT / "target/release/notify-gateway"
        environment = {**os.environ, "DATABASE_URL": postgres.url, "JWT_SECRET": "x" * 40}
        environment |= {"GATEWAY_ADMIN_BIND": "127.0.0.1:0", "GATEWAY_QUIET": quiet}
        token = subprocess.run(
            [binary, "token", "--user", USER], env=environment, check=True, capture_output=True, text=True
        ).stdout.strip()
        self.processes = []
        # Those that have streams.
        self.pids = []
        self.latencies = []
        quietly = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        if relay:
            environment |= {"GATEWAY_RELAY": relay, "GATEWAY_RELAY_ROLE": "source"}
            environment["GATEWAY_BIND"] = "127.0.0.1:0"
            self.processes.append(subprocess.Popen([binary], env=environment, **quietly))
            environment["GATEWAY_RELAY_ROLE"] = "edge"
        for port in free_ports(count):
            address = f"127.0.0.1:{port}"
            environment["GATEWAY_BIND"] = address
            self.processes.append(subprocess.Popen([binary], env=environment, **quietly))
            self.pids.append(self.processes[-1].pid)
            stream = f"http://{address}/api/notifications/stream?access_token={token}"
            self.latencies.append(BENCH / f"target/latencies-{port}.json")
            reader = [sys.executable, BENCH / "stream_reader.py", stream, self.latencies[-1]]
            self.processes.append(subprocess.Popen(reader, **quietly))
        time.sleep(3)

    def close(self):
        """Returns when rows came to a stream and how long after they were made."""
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            process.wait()
        found = [json.loads(file.read_text()) for file in self.latencies]
        for file in self.latencies:
            file.unlink()
        return sum(found, [])


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def transactions(postgres, seconds, *limits):
    """One-row transactions a second by eight writers."""
    script = BENCH / "target/insert.sql"
    script.write_text(INSERT + ";\n")
    command = ["pgbench", "-n", "-c", "8", "-j", "2", "-T", str(seconds), "-f", script, *limits]
    command.append(postgres.url)
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return next(float(line.split()[2]) for line in said.splitlines() if line.startswith("tps"))


def in_one_session(postgres, rows=20_000):
    """Microseconds a row, in one transaction: mostly CPU."""
    loop = "DO $$ BEGIN FOR i IN 1..%d LOOP %s; END LOOP; END $$" % (rows, INSERT)
    timed = lambda sql: -time.monotonic() + (postgres.sql(sql), time.monotonic())[1]
    result = {"insert": timed(loop)}
    result["update, nothing told changes"] = timed("UPDATE notifications SET status = status")
    result["update"] = timed("UPDATE notifications SET status = 'read'")
    result["delete"] = timed("DELETE FROM notifications")
    return {name: took / rows * 1e6 for name, took in result.items()}


def bulk(postgres, rows):
    began = time.monotonic()
    postgres.sql(BULK % rows)
    return time.monotonic() - began


def measure(postgres, seconds):
    """The figures, and the times between which the writers were at work."""
    began = time.time()
    transactions(postgres, seconds, "--rate", str(RATE))
    slow = (began, time.time())
    figures = {"8 writers, transactions/s": transactions(postgres, seconds)}
    windows = {f"{RATE} transactions/s": slow, "saturation": (slow[1], time.time())}
    time.sleep(1)
    postgres.sql("TRUNCATE notifications, notify_gateway.event")
    figures |= {f"µs a row, {name}": took for name, took in in_one_session(postgres).items()}
    for rows in (10_000, 100_000):
        postgres.sql("TRUNCATE notifications, notify_gateway.event")
        figures[f"INSERT of {rows:,} rows, s"] = bulk(postgres, rows)
    return figures, windows


def percentiles(latencies, windows):
    """Milliseconds from the INSERT to the client, of the rows made in each window."""
    figures = {}
    for name, (began, ended) in windows.items():
        found = sorted(took for at, took in latencies if began <= at - took <= ended)
        for part in (0.5, 0.99):
            value = found[int(part * len(found))] * 1000 if found else math.nan
            figures[f"ms to a client, p{part * 100:.0f}, {name}"] = value
    return figures


def table(title, found):
    print(f"\n{title}\n")
    print(f"{'':44}" + "".join(f"{form:>18}" for form in FORMS))
    for name in next(iter(found["none"])):
        middle = {form: statistics.median(round[name] for round in found[form]) for form in FORMS}
        # Without a trigger nothing is delivered: the ratio is to a row by NOTIFY.
        base = "row" if math.isnan(middle["none"]) else "none"
        cells = [f"{middle[form]:>10.4g} {middle[form] / middle[base]:>5.2f}x " for form in FORMS]
        print(f"{name:44}" + "".join(f"{cell:>18}" for cell in cells))


def main():
    parser = argparse.ArgumentParser(
        prog="writers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--gateways", default="1,4", help="how many listen, for example 1,4,20")
    parser.add_argument("--commit-delay", default="0,1000", help="microseconds")
    options = parser.parse_args()
    postgres = Postgres()
    try:
        for delay in options.commit_delay.split(","):
            postgres.sql(f"ALTER SYSTEM SET commit_delay = {delay}")
            postgres.sql("ALTER SYSTEM SET commit_siblings = 0")
            postgres.sql("SELECT pg_reload_conf()")
            for count in options.gateways.split(","):
                found = {form: [] for form in FORMS}
                for _ in range(options.rounds):
                    for form in FORMS:
                        postgres.form(form)
                        gateways = Gateways(postgres, int(count), form)
                        try:
                            figures, windows = measure(postgres, options.seconds)
                        finally:
                            latencies = gateways.close()
                        found[form].append(figures | percentiles(latencies, windows))
                table(f"{count} gateways, commit_delay {delay} µs, {options.rounds} rounds", found)
    finally:
        postgres.close()


if __name__ == "__main__":
    main()
