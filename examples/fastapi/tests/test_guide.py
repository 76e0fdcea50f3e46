"""The page that leads from the application as it was to the one that is here, followed."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from guide import Guide
from scribe_stack import HERE, PASSWORD
from stack import REPOSITORY, Nginx, Postgres, Program, answers, eventually, free_port, gateway_binary

NOT_COPIED = shutil.ignore_patterns("node_modules", "dist", "__pycache__", "*.pyc")


@dataclass
class World:
    """An application that runs as it was, and the reader who changes it."""

    guide: Guide
    postgres: Postgres
    app: Program
    nginx: Nginx
    gateway: str

    def watched(self) -> str:
        return self.postgres.psql("SELECT relation, trigger FROM notify_gateway.watched", "scribe")

    def tell(self, title: str) -> None:
        self.postgres.psql(
            f"""INSERT INTO notifications (id, user_id, kind, title, body)
                SELECT gen_random_uuid(), id, 'success', '{title}', '' FROM users WHERE name = 'Ada'""",
            "scribe",
        )


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    os.chmod(tmp_path, 0o755)
    for above in tmp_path.parents:
        if above.is_relative_to("/tmp") and above != Path("/tmp"):
            os.chmod(above, 0o755)
    checkout = tmp_path / "checkout"
    here = checkout / "examples/fastapi"
    shutil.copytree(HERE, here, ignore=NOT_COPIED, symlinks=True)
    (checkout / "schema.sql").symlink_to(REPOSITORY / "schema.sql")
    # A link would be resolved by npm.
    for part in ("dist", "src"):
        shutil.copytree(REPOSITORY / "frontend" / part, checkout / "frontend" / part)
    shutil.copy(REPOSITORY / "frontend/package.json", checkout / "frontend")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "notify-gateway").symlink_to(gateway_binary())

    postgres = Postgres(tmp_path)
    secret = tmp_path / "jwt-secret"
    secret.write_text("s" * 48)
    app_port, gateway_port, admin_port, port = (free_port() for _ in range(4))
    environment = {
        **os.environ,
        "PATH": f"{programs}:{Path(sys.executable).parent}:{postgres.binaries}:{os.environ['PATH']}",
        "ADMIN_URL": postgres.url(),
        "DATABASE_URL": postgres.url("scribe", "scribe", "postgresql+asyncpg"),
        "JWT_SECRET_FILE": str(secret),
        "COOKIE_SECURE": "false",
        "GATEWAY_BIND": f"127.0.0.1:{gateway_port}",
        "GATEWAY_ADMIN_BIND": f"127.0.0.1:{admin_port}",
        # `check` waits for half of it.
        "GATEWAY_HEARTBEAT": "2s",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    guide = Guide(HERE / "README.md", here, {"localhost:5432": f"127.0.0.1:{postgres.port}"}, environment)
    app = Program(
        "app",
        [sys.executable, "-m", "uvicorn", "--port", str(app_port), "scribe.main:app"],
        directory=tmp_path,
        environment=environment,
        working_directory=here / "backend",
        is_ready=lambda: answers(f"http://127.0.0.1:{app_port}/api/flags"),
    )
    places = {
        "listen 80;": f"listen 127.0.0.1:{port};",
        "/srv/scribe/frontend/dist": str(here / "frontend/dist"),
        "127.0.0.1:8000": f"127.0.0.1:{app_port}",
        "127.0.0.1:8080": f"127.0.0.1:{gateway_port}",
    }
    nginx = Nginx(tmp_path, here / "nginx/scribe.conf", places, port)
    postgres.start()
    postgres.psql("CREATE ROLE scribe LOGIN PASSWORD 'scribe'; CREATE DATABASE scribe OWNER scribe")
    try:
        yield World(guide, postgres, app, nginx, f"http://127.0.0.1:{admin_port}")
    finally:
        guide.close()
        for program in (nginx, app, postgres):
            program.stop()


def shows(page: Page, bell: str, unread: int) -> None:
    expect(page.locator(f"[data-bell={bell}]")).to_be_visible()
    name = f"Notifications, {unread} unread" if unread else "Notifications"
    expect(page.get_by_role("button", name=name, exact=True)).to_be_visible()


def test_from_the_application_as_it_was_to_the_one_that_is_here(
    world: World, new_browser: Callable[..., BrowserContext]
) -> None:
    guide = world.guide
    here = guide.directory

    # As it was: nothing of ours is anywhere.
    guide.undo_changes()
    (here / "backend/migrations/versions/0003_bell.sql").unlink()
    guide.run("cd frontend && npm uninstall --silent --no-audit --no-fund @notify-gateway/client sonner")
    before = {path: path.read_bytes() for path in (here / "backend").rglob("*.py")}
    for test in ("Bell", "stream"):
        (here / f"frontend/src/{test}.test.tsx").unlink()
    for path in [*before, *(here / "nginx").iterdir(), *(here / "frontend/src").iterdir()]:
        assert b"notify-gateway" not in path.read_bytes(), path
    assert "notify-gateway" not in (here / "frontend/package.json").read_text()
    guide.run("cd frontend && npm run build")
    guide.run("cd backend && alembic upgrade head && python -m scribe.seed")
    assert "No new upgrade operations" in guide.run("cd backend && alembic check")
    world.app.start()
    world.nginx.write_configuration()
    world.nginx.start()

    page = new_browser().new_page()
    page.goto(f"http://localhost:{world.nginx.port}/")
    page.get_by_label("E-mail").fill("ada@example.com")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    shows(page, "polling", 0)
    world.tell("Found by the next poll")
    page.reload()
    shows(page, "polling", 1)

    guide.follow("1. Roles")
    guide.follow("2. One migration")
    assert world.watched() == "notifications|always"
    # The application writes as before, and nobody listens yet.
    world.tell("Nobody listens")

    guide.follow("3. The gateway", {"gateway": lambda: answers(f"{world.gateway}/readyz")})
    eventually("ready", lambda: httpx.get(f"{world.gateway}/readyz").json()["ready"])

    guide.follow("4. One location in the proxy")
    stream = f"http://localhost:{world.nginx.port}/api/notifications/stream"
    # The application's own, which knows a notification by that name only to delete it.
    assert httpx.get(stream).status_code == 405
    world.nginx.write_configuration()
    world.nginx.reload()
    eventually("the gateway behind nginx", lambda: httpx.get(stream).status_code == 401)

    guide.follow("5. The page")
    package = json.loads((here / "frontend/package.json").read_text())
    assert package == json.loads((HERE / "frontend/package.json").read_text())
    # The flag is off: the bell is the same as before.
    page.reload()
    shows(page, "polling", 2)

    guide.follow("6. Switch it on")
    world.app.stop()
    world.app.start({"FEATURE_FLAGS": guide.run('printf %s "$FEATURE_FLAGS"')})
    page.reload()
    shows(page, "live", 2)
    world.tell("Live")
    shows(page, "live", 3)
    page.get_by_label("File name").fill("interview.mp3")
    page.get_by_role("button", name="Transcribe").click()
    shows(page, "live", 4)

    after = {path: path.read_bytes() for path in (here / "backend").rglob("*.py")}
    new = here / "backend/migrations/versions/0003_bell.py"
    assert {path for path in after if after[path] != before.get(path)} == {new}

    # The flag out: pages poll, whatever becomes of the rest.
    world.app.stop()
    world.app.start({"FEATURE_FLAGS": "[]"})
    guide.follow("The way back")
    assert world.postgres.psql("SELECT to_regnamespace('notify_gateway')", "scribe") == ""
    page.reload()
    shows(page, "polling", 4)
    world.tell("As before")
    page.reload()
    shows(page, "polling", 5)
    # And on again.
    guide.run("cd backend && alembic upgrade head && alembic check")
    assert world.watched() == "notifications|always"
