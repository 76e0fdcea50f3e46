"""Scribe, all of it: PostgreSQL, the application, the gateway, nginx and the built page.

    make example        or: python3 examples/fastapi/scribe_stack.py [--port 3000] [--proxy caddy]

Ctrl-C stops it and removes everything.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from stack import Caddy, Gateway, Nginx, NotThere, Postgres, Program, answers, free_port, temporary_directory  # noqa: E402

BACKEND = HERE / "backend"
PAGE = HERE / "frontend/dist"
PASSWORD = "bell"
FLAG = "enable_sse_notifications"

# Step 1 of docs/fastapi.md, and the application's own role and database.
ROLES = """
CREATE ROLE scribe LOGIN PASSWORD 'scribe';
CREATE DATABASE scribe OWNER scribe;
CREATE ROLE notify_gateway NOLOGIN;
CREATE ROLE notify_gateway_owner NOLOGIN;
CREATE ROLE bell LOGIN PASSWORD 'bell' IN ROLE notify_gateway;
GRANT notify_gateway_owner TO scribe;
"""


class Scribe:
    """The application with everything around it; each part can be stopped and started by itself."""

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        is_live: bool = True,
        app_settings: dict[str, str] | None = None,
        gateway_settings: dict[str, str] | None = None,
        postgres_settings: tuple[str, ...] = (),
        proxy: str = "nginx",
    ) -> None:
        self.secret = secrets.token_hex(32)
        secret_file = directory / "jwt-secret"
        secret_file.write_text(self.secret)
        self.postgres = Postgres(directory, postgres_settings)
        self.app_port = free_port()
        self.app_environment = {
            "DATABASE_URL": self.postgres.url("scribe", "scribe", "postgresql+asyncpg"),
            "JWT_SECRET_FILE": str(secret_file),
            "COOKIE_SECURE": "false",
            "FEATURE_FLAGS": f'["{FLAG}"]' if is_live else "[]",
            "PYTHONDONTWRITEBYTECODE": "1",
            **(app_settings or {}),
        }
        app_url = f"http://127.0.0.1:{self.app_port}"
        self.app = Program(
            "app",
            [sys.executable, "-m", "uvicorn", "--port", str(self.app_port), "scribe.main:app"],
            directory=directory,
            environment=self.app_environment,
            working_directory=BACKEND,
            is_ready=lambda: answers(f"{app_url}/api/flags"),
        )
        self.gateway = Gateway(
            directory,
            {
                "DATABASE_URL": self.postgres.url("scribe", "bell"),
                "JWT_SECRET_FILE": str(secret_file),
                "JWT_AUDIENCE": "scribe",
                **(gateway_settings or {}),
            },
        )
        port = port or free_port()
        places = {
            "listen 80;": f"listen 127.0.0.1:{port};",
            "localhost {": f"http://:{port} {{\n\tbind 127.0.0.1",
            "/srv/scribe/frontend/dist": str(PAGE),
            "127.0.0.1:8000": f"127.0.0.1:{self.app_port}",
            "127.0.0.1:8080": f"127.0.0.1:{self.gateway.port}",
        }
        self.proxy: Nginx | Caddy
        if proxy == "caddy":
            self.proxy = Caddy(directory, HERE / "Caddyfile", places, port)
        else:
            self.proxy = Nginx(directory, HERE / "nginx/scribe.conf", places, port)
        self.url = f"http://localhost:{port}"

    @property
    def parts(self) -> list[Program]:
        return [self.postgres, self.app, self.gateway, self.proxy]

    def start(self, *, seed: bool = True) -> None:
        self.postgres.start()
        self.postgres.psql(ROLES)
        self.backend("-m", "alembic", "upgrade", "head")
        if seed:
            self.backend("-m", "scribe.seed")
        self.app.start()
        self.gateway.start()
        self.proxy.start()

    def backend(self, *arguments: str) -> str:
        """Runs Python as the application has it, and returns what it prints."""
        environment = {**os.environ, **self.app_environment}
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=BACKEND, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(arguments)}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def sql(self, sql: str) -> str:
        """What a DBA types into the application's database."""
        return self.postgres.psql(sql, "scribe")

    def stop(self) -> None:
        for part in reversed(self.parts):
            part.stop()


@contextmanager
def running(**settings) -> Iterator[Scribe]:
    with temporary_directory() as directory:
        scribe = Scribe(Path(directory), **settings)
        try:
            scribe.start()
            yield scribe
        finally:
            scribe.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=3000, help="where the page is (default: %(default)s)")
    parser.add_argument("--proxy", choices=["nginx", "caddy"], default="nginx")
    given = parser.parse_args()
    # Also where a shell has it ignore Ctrl-C, as it does in the background.
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.default_int_handler)
    print(f"starting PostgreSQL, the application, the gateway and {given.proxy} …", flush=True)
    try:
        with running(port=given.port, proxy=given.proxy) as scribe:
            print(
                f"\npage:  {scribe.url}/\n"
                f"users: ada@example.com, grace@example.com, linus@example.com; the password is {PASSWORD}\n"
                f"psql:  psql {scribe.postgres.url('scribe')}\n"
                f"       INSERT INTO notifications (id, user_id, kind, title, body)\n"
                f"       SELECT gen_random_uuid(), id, 'success', 'Hello', 'typed in psql' FROM users;\n"
                f"logs:  {scribe.app.log.parent}\n\n"
                "Ctrl-C stops it and removes everything.",
                flush=True,
            )
            threading.Event().wait()
    except KeyboardInterrupt:
        print("\nstopped, and removed")
    except NotThere as missing:
        sys.exit(str(missing))


if __name__ == "__main__":
    main()
