"""A shop on Django, all of it: PostgreSQL, the application, the gateway and nginx.

    python3 examples/django/shop_stack.py [--port 3001]

Ctrl-C stops it and removes everything.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import stack  # noqa: E402
from stack import (  # noqa: E402
    REPOSITORY,
    Gateway,
    Nginx,
    NotThere,
    Postgres,
    Program,
    Stack,
    answers,
    free_port,
    gateway_binary,
    port_or_free,
    run_until_ctrl_c,
    secret_file,
)

SCHEMA = HERE / "inbox/migrations/0002_bell.sql"
CLIENT = HERE / "inbox/static/inbox/notify-gateway.min.js"
PASSWORD = "bell"


def bring_files() -> None:
    """The two files that a project takes over from the gateway, of this checkout's version."""
    built = REPOSITORY / "frontend/dist" / CLIENT.name
    if not built.exists():
        raise NotThere("the client is not built: cd frontend && npm ci && npm run build")
    shutil.copyfile(built, CLIENT)
    schema = subprocess.run([gateway_binary(), "schema", "--no-table"], check=True, stdout=subprocess.PIPE)
    SCHEMA.write_bytes(schema.stdout)


class Shop(Stack):
    name = "shop"
    app_directory = HERE

    def __init__(self, directory: Path, *, port: int | None = None) -> None:
        secret = secret_file(directory, "bell-secret")
        static = directory / "static"
        self.postgres = Postgres(directory)
        self.app_port = free_port()
        self.app_environment = {
            "ALLOWED_HOSTS": "localhost,127.0.0.1",
            "BELL_SECRET_FILE": str(secret),
            "COOKIE_SECURE": "0",
            "SECRET_KEY": secret_file(directory, "secret-key").read_text(),
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
            working_directory=self.app_directory,
            is_ready=lambda: answers(f"http://127.0.0.1:{self.app_port}/login"),
        )
        self.gateway = Gateway(
            directory,
            {
                "DATABASE_URL": self.postgres.url("shop", "bell"),
                "JWT_SECRET_FILE": str(secret),
                "JWT_AUDIENCE": "bell",
                "JWT_COOKIE": "bell",
            },
        )
        port = port_or_free(port)
        self.proxy = Nginx(
            directory,
            HERE / "nginx/shop.conf",
            {
                "/srv/shop/static": str(static),
                "127.0.0.1:8000": f"127.0.0.1:{self.app_port}",
                "127.0.0.1:8080": f"127.0.0.1:{self.gateway.port}",
                # The last, since the port may be any.
                "listen 80;": f"listen 127.0.0.1:{port};",
            },
            port,
        )
        self.url = f"http://localhost:{port}"

    def prepare(self) -> None:
        bring_files()
        self.manage("collectstatic", "--noinput")
        self.manage("migrate")
        self.manage("seed")

    def manage(self, *arguments: str, **settings: str) -> str:
        return self.python("manage.py", *arguments, **settings)

    def sql(self, sql: str, database: str = "shop") -> str:
        """What a DBA types into the application's database."""
        return self.postgres.psql(sql, database)


def running(**settings) -> AbstractContextManager[Shop]:
    return stack.running(lambda directory: Shop(directory, **settings))


def explain(shop: Shop) -> str:
    return (
        f"users: ada, grace; and admin, who sends orders at {shop.url}/admin/orders/order/\n"
        f"       the password is {PASSWORD}; log in as two users in two browsers\n"
        f"psql:  psql {shop.postgres.url('shop')}\n"
        "       INSERT INTO inbox_notification (recipient_id, verb) SELECT id, 'Typed in psql' FROM auth_user;\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=3001, help="where the page is (default: %(default)s)")
    port = parser.parse_args().port
    run_until_ctrl_c(lambda directory: Shop(directory, port=port), explain)


if __name__ == "__main__":
    main()
