"""A shop on Django, all of it: PostgreSQL, the application, the gateway and nginx.

    python3 examples/django/shop_stack.py [--port 3001]

Ctrl-C stops it and removes everything.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from stack import (  # noqa: E402
    REPOSITORY,
    Gateway,
    Nginx,
    NotThere,
    Postgres,
    Program,
    answers,
    free_port,
    gateway_binary,
    temporary_directory,
)

SCHEMA = HERE / "inbox/migrations/0002_bell.sql"
CLIENT = HERE / "inbox/static/inbox/notify-gateway.min.js"
PASSWORD = "bell"

# Step 1 of docs/django.md, and the application's own role and database.
ROLES = """
CREATE ROLE shop LOGIN CREATEDB PASSWORD 'shop';
CREATE DATABASE shop OWNER shop;
CREATE ROLE notify_gateway NOLOGIN;
CREATE ROLE notify_gateway_owner NOLOGIN;
CREATE ROLE bell LOGIN PASSWORD 'bell' IN ROLE notify_gateway;
GRANT notify_gateway_owner TO shop;
"""


def bring_files() -> None:
    """The two files that a project takes over from the gateway, of this checkout's version."""
    built = REPOSITORY / "frontend/dist" / CLIENT.name
    if not built.exists():
        raise NotThere("the client is not built: cd frontend && npm ci && npm run build")
    shutil.copyfile(built, CLIENT)
    schema = subprocess.run([gateway_binary(), "schema", "--no-table"], check=True, stdout=subprocess.PIPE)
    SCHEMA.write_bytes(schema.stdout)


class Shop:
    """The application with everything around it; each part can be stopped and started by itself."""

    def __init__(self, directory: Path, *, port: int | None = None) -> None:
        secret_file = directory / "bell-secret"
        secret_file.write_text(secrets.token_hex(32))
        static = directory / "static"
        self.postgres = Postgres(directory)
        self.app_port = free_port()
        self.app_environment = {
            "ALLOWED_HOSTS": "localhost,127.0.0.1",
            "BELL_SECRET_FILE": str(secret_file),
            "DATABASE_HOST": "127.0.0.1",
            "DATABASE_PORT": str(self.postgres.port),
            "STATIC_ROOT": str(static),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.app = Program(
            "app",
            [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{self.app_port}", "--threads", "4", "shop.wsgi"],
            directory=directory,
            environment=self.app_environment,
            working_directory=HERE,
            is_ready=lambda: answers(f"http://127.0.0.1:{self.app_port}/login"),
        )
        self.gateway = Gateway(
            directory,
            {
                "DATABASE_URL": self.postgres.url("shop", "bell"),
                "JWT_SECRET_FILE": str(secret_file),
                "JWT_AUDIENCE": "bell",
                "JWT_COOKIE": "bell",
            },
        )
        port = port or free_port()
        self.nginx = Nginx(
            directory,
            HERE / "nginx/shop.conf",
            {
                "listen 80;": f"listen 127.0.0.1:{port};",
                "/srv/shop/static": str(static),
                "127.0.0.1:8000": f"127.0.0.1:{self.app_port}",
                "127.0.0.1:8080": f"127.0.0.1:{self.gateway.port}",
            },
            port,
        )
        self.url = f"http://localhost:{port}"

    @property
    def parts(self) -> list[Program]:
        return [self.postgres, self.app, self.gateway, self.nginx]

    def start(self) -> None:
        bring_files()
        self.postgres.start()
        self.postgres.psql(ROLES)
        self.manage("collectstatic", "--noinput")
        self.manage("migrate")
        self.manage("seed")
        self.app.start()
        self.gateway.start()
        self.nginx.start()

    def manage(self, *arguments: str, **settings: str) -> str:
        """Runs manage.py as the application has it, with these settings besides, and returns what it prints."""
        environment = {**os.environ, **self.app_environment, **settings}
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(arguments)}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def sql(self, sql: str, database: str = "shop") -> str:
        """What a DBA types into the application's database."""
        return self.postgres.psql(sql, database)

    def stop(self) -> None:
        for part in reversed(self.parts):
            part.stop()


@contextmanager
def running(**settings) -> Iterator[Shop]:
    with temporary_directory() as directory:
        shop = Shop(Path(directory), **settings)
        try:
            shop.start()
            yield shop
        finally:
            shop.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=3001, help="where the page is (default: %(default)s)")
    port = parser.parse_args().port
    print("starting PostgreSQL, the application, the gateway and nginx …", flush=True)
    try:
        with running(port=port) as shop:
            print(
                f"\npage:  {shop.url}/\n"
                f"users: ada, grace; and admin, who sends orders at {shop.url}/admin/orders/order/\n"
                f"       the password is {PASSWORD}; log in as two users in two browsers\n"
                f"psql:  psql {shop.postgres.url('shop')}\n"
                f"       INSERT INTO inbox_notification (recipient_id, verb)\n"
                f"       SELECT id, 'Typed in psql' FROM auth_user;\n"
                f"logs:  {shop.app.log.parent}\n\n"
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
