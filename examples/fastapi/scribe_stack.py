"""Scribe, all of it: PostgreSQL, the application, the gateway, nginx and the built page.

    make example        or: python3 examples/fastapi/scribe_stack.py [--port 3000] [--proxy caddy]

Ctrl-C stops it and removes everything.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import AbstractContextManager
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import stack  # noqa: E402
from stack import (  # noqa: E402
    Caddy,
    Gateway,
    Nginx,
    Postgres,
    Program,
    Stack,
    answers,
    free_port,
    port_or_free,
    run_until_ctrl_c,
    secret_file,
)

PASSWORD = "bell"
FLAG = "enable_sse_notifications"


class Scribe(Stack):
    name = "scribe"

    def __init__(
        self,
        directory: Path,
        *,
        here: Path = HERE,
        port: int | None = None,
        is_live: bool = True,
        gateway_settings: dict[str, str] | None = None,
        proxy: str = "nginx",
    ) -> None:
        secret = secret_file(directory, "jwt-secret")
        self.secret = secret.read_text()
        self.postgres = Postgres(directory)
        self.app_port = free_port()
        self.app_directory = here / "backend"
        self.app_environment = {
            "DATABASE_URL": self.postgres.url("scribe", "scribe", "postgresql+asyncpg"),
            "JWT_SECRET_FILE": str(secret),
            "COOKIE_SECURE": "false",
            "FEATURE_FLAGS": f'["{FLAG}"]' if is_live else "[]",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.app = self.uvicorn(directory, "scribe.main:app")
        self.gateway = Gateway(
            directory,
            {
                "DATABASE_URL": self.postgres.url("scribe", "bell"),
                "JWT_SECRET_FILE": str(secret),
                "JWT_AUDIENCE": "scribe",
                **(gateway_settings or {}),
            },
        )
        port = port_or_free(port)
        places = {
            "/srv/scribe/frontend/dist": str(here / "frontend/dist"),
            "127.0.0.1:8000": f"127.0.0.1:{self.app_port}",
            "127.0.0.1:8080": f"127.0.0.1:{self.gateway.port}",
            # The last, since the port may be any.
            "listen 80;": f"listen 127.0.0.1:{port};",
            "localhost {": f"http://:{port} {{\n\tbind 127.0.0.1",
        }
        if proxy == "caddy":
            self.proxy = Caddy(directory, here / "Caddyfile", places, port)
        else:
            self.proxy = Nginx(directory, here / "nginx/scribe.conf", places, port)
        self.url = f"http://localhost:{port}"

    def uvicorn(self, directory: Path, app: str, *options: str, **settings: str) -> Program:
        url = f"http://127.0.0.1:{self.app_port}"
        return Program(
            "app",
            [sys.executable, "-m", "uvicorn", "--port", str(self.app_port), *options, app],
            directory=directory,
            environment={**self.app_environment, **settings},
            working_directory=self.app_directory,
            is_ready=lambda: answers(f"{url}/api/flags"),
        )

    def prepare(self) -> None:
        self.python("-m", "alembic", "upgrade", "head")
        self.python("-m", "scribe.seed")

    def sql(self, sql: str) -> str:
        """What a DBA types into the application's database."""
        return self.postgres.psql(sql, "scribe")


def running(**settings) -> AbstractContextManager[Scribe]:
    return stack.running(lambda directory: Scribe(directory, **settings))


def explain(scribe: Scribe) -> str:
    return (
        f"users: ada@example.com, grace@example.com, linus@example.com; the password is {PASSWORD}\n"
        f"psql:  psql {scribe.postgres.url('scribe')}\n"
        "       INSERT INTO notifications (id, user_id, kind, title, body)\n"
        "       SELECT gen_random_uuid(), id, 'success', 'Hello', 'typed in psql' FROM users;\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=3000, help="where the page is (default: %(default)s)")
    parser.add_argument("--proxy", choices=["nginx", "caddy"], default="nginx")
    given = parser.parse_args()
    run_until_ctrl_c(lambda directory: Scribe(directory, port=given.port, proxy=given.proxy), explain)


if __name__ == "__main__":
    main()
