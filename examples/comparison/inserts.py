"""What an INSERT costs: no trigger, the tutorial's, the gateway's, one after the other on one server."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from report import GATEWAY, IN_PROCESS, WAYS
from stack import NotThere, eventually, postgres_binaries
from ways import Compared, Pages, running


@dataclass(frozen=True)
class Load:
    name: str
    writers: int
    #: Transactions a second of all of them; None: as many as they can.
    rate: int | None = None


#: The first is as an application writes, the others are as fast as it goes: there the gateway makes
#: its triggers quiet, which leaves out NOTIFY.
LOADS = (Load("paced", 1, rate=100), Load("1", 1), Load("8", 8))
#: Pages of the gateway and of the application that are open meanwhile.
PAGES = 10
TRIGGERS = {IN_PROCESS: "notify_row", GATEWAY: '"00_notify_gateway"'}
SCRIPT = """\\set user random(1, {count})
INSERT INTO notifications (id, user_id, kind, title, body)
SELECT gen_random_uuid(), id, 'success', 'Transcription ready', 'interview-17.mp3'
  FROM numbered_users WHERE number = :user;
"""


def measure(users: int, seconds: int, slices: int) -> dict[str, dict[str, float]]:
    """The median of a transaction in ms, and transactions a second, of each way.

    The application and a gateway both listen, and each has pages open, whatever trigger is on.
    """
    program = find_pgbench()
    with running({IN_PROCESS, GATEWAY}, users) as stack:
        stack.sql(
            "CREATE TABLE numbered_users AS SELECT row_number() OVER () AS number, id FROM users;"
            "ALTER TABLE numbered_users ADD PRIMARY KEY (number); GRANT SELECT ON numbered_users TO scribe"
        )
        held = [
            Pages(stack, count=min(PAGES, users), polls=False, poll_seconds=30, ramp_seconds=1, url=url)
            for url in (stack.url, f"http://127.0.0.1:{stack.app_port}")
        ]
        try:
            for pages in held:
                eventually("the pages are open", lambda pages=pages: pages.open() == min(PAGES, users))
            found: dict[str, dict[str, list[float]]] = {way: {} for way in WAYS}
            for _ in range(slices):
                for load in LOADS:
                    for way in WAYS:
                        prepare(stack, way)
                        took, rate = write(stack, program, load, seconds)
                        found[way].setdefault(f"insert_{load.name}", []).append(took)
                        found[way].setdefault(f"inserts_a_second_{load.name}", []).append(rate)
        finally:
            for pages in held:
                pages.close()
    return {
        way: {name: statistics.median(values) for name, values in figures.items()} for way, figures in found.items()
    }


def find_pgbench() -> str:
    """The one of the server, or another."""
    beside = postgres_binaries() / "pgbench"
    found = str(beside) if beside.exists() else shutil.which("pgbench")
    if found is None:
        raise NotThere("pgbench is not there; for example: apt-get install postgresql-contrib")
    return found


def prepare(stack: Compared, way: str) -> None:
    """This way's trigger, an empty table, and nothing left to write from the last one."""
    for owner, trigger in TRIGGERS.items():
        state = "ENABLE ALWAYS" if owner == way else "DISABLE"
        stack.sql(f"ALTER TABLE notifications {state} TRIGGER {trigger}")
    stack.sql("TRUNCATE notifications, notify_gateway.event")
    stack.sql("CHECKPOINT")


def write(stack: Compared, pgbench: str, load: Load, seconds: int) -> tuple[float, float]:
    """The median of a transaction in ms, and transactions a second."""
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory, "insert.sql")
        script.write_text(SCRIPT.format(count=len(stack.users)))
        command = [pgbench, "--no-vacuum", "--log", "--protocol=prepared", f"--client={load.writers}"]
        command += [f"--jobs={min(load.writers, 2)}", f"--time={seconds}", f"--file={script}"]
        if load.rate is not None:
            command.append(f"--rate={load.rate}")
        command.append(stack.postgres.url("scribe", "scribe"))
        subprocess.run(command, cwd=directory, check=True, capture_output=True, timeout=seconds + 60)
        logs = [line.split() for log in Path(directory).glob("pgbench_log.*") for line in log.open()]
    # At a rate, the last field is how late the transaction began, which counts in the third.
    late = [int(line[6]) if load.rate is not None else 0 for line in logs]
    took = [int(line[2]) - lag for line, lag in zip(logs, late, strict=True)]
    return statistics.median(took) / 1000, len(logs) / seconds
