"""The three ways to tell a page of a new row, each as the whole stack that it needs."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import jwt

import stack
from report import GATEWAY, IN_PROCESS
from scribe_stack import Scribe
from stack import Program

HERE = Path(__file__).resolve().parent
#: As long as the longest round takes, so that no stream ends for its token.
TOKEN_LIFETIME = timedelta(hours=4)
#: What the process of the pages may take for an answer.
ANSWER_SECONDS = 30


class Compared(Scribe):
    """Scribe with what these ways need, and nothing of the others."""

    def __init__(self, directory: Path, ways: set[str], user_count: int) -> None:
        # All the pages have one address here, which the gateway otherwise admits 100 times a second.
        super().__init__(directory, gateway_settings={"GATEWAY_CONNECT_RATE": "0"})
        self.ways = ways
        self.users = [uuid4() for _ in range(user_count)]
        if IN_PROCESS in ways:
            # A stream that a browser holds open does not delay a deployment for longer.
            options = ("--timeout-graceful-shutdown", "5")
            self.app = self.uvicorn(directory, "in_process:app", *options, PYTHONPATH=str(HERE))
        if GATEWAY not in ways:
            # The stream's `location`, with the application behind it.
            bell = directory / "nginx/bell.conf"
            bell.write_text(bell.read_text().replace(f":{self.gateway.port};", f":{self.app_port};"))

    @property
    def parts(self) -> list[Program]:
        return [part for part in super().parts if part is not self.gateway or GATEWAY in self.ways]

    @property
    def deployed(self) -> list[Program]:
        """What a deployment of the application restarts, at the worst."""
        return [part for part in self.parts if part in (self.app, self.gateway)]

    def prepare(self) -> None:
        self.python("-m", "alembic", "upgrade", "head" if GATEWAY in self.ways else "0002")
        if IN_PROCESS in self.ways:
            # As the application's own role, like a migration.
            self.postgres.psql((HERE / "in_process.sql").read_text(), "scribe", "scribe")
        rows = ",".join(f"('{user}', '{user}@example.com', '{user}', '')" for user in self.users)
        self.sql(f"INSERT INTO users (id, email, name, password_hash) VALUES {rows}; ANALYZE")

    def token(self, user: UUID) -> str:
        """An access token as the application issues it."""
        now = datetime.now(UTC)
        claims = {"sub": str(user), "aud": "scribe", "iat": now, "exp": now + TOKEN_LIFETIME}
        return jwt.encode(claims, self.secret, algorithm="HS256")

    def memory_mib(self, part: Program) -> float:
        """The resident memory of one program."""
        status = Path(f"/proc/{part.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS:"))

    def requests(self) -> int:
        """How many requests the application has answered, by its own access log."""
        return sum("HTTP/1." in line for line in self.app.log.read_text().splitlines())


def running(ways: set[str], user_count: int) -> AbstractContextManager[Compared]:
    return stack.running(lambda directory: Compared(directory, ways, user_count))


class Pages:
    """The process that holds the pages."""

    def __init__(
        self,
        compared: Compared,
        *,
        count: int,
        polls: bool,
        poll_seconds: float,
        ramp_seconds: float,
        url: str | None = None,
    ) -> None:
        plan = {
            "url": url or compared.url,
            "polls": polls,
            "poll_seconds": poll_seconds,
            "ramp_seconds": ramp_seconds,
            "tokens": [compared.token(user) for user in compared.users[:count]],
        }
        self._process = subprocess.Popen(
            [sys.executable, HERE / "pages.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._say(json.dumps(plan))

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def ask(self, command: str) -> dict:
        self._say(command)
        assert self._process.stdout is not None
        answered, _, _ = select.select([self._process.stdout], [], [], ANSWER_SECONDS)
        line = self._process.stdout.readline() if answered else ""
        if not line:
            raise AssertionError("the process of the pages has ended, or answers nothing")
        return json.loads(line)

    def open(self) -> int:
        return self.ask("open")["open"]

    def heard(self) -> dict[str, float]:
        return self.ask("heard")["heard"]

    def counts(self) -> dict[str, int]:
        return self.ask("open")["counts"]

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
