"""The page that leads from the application as it was to the one that is here, followed."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import BrowserContext, expect

import stack
from guide import Guide
from scribe_stack import HERE, Scribe
from stack import REPOSITORY, answers, application_role, eventually, gateway_binary
from tab import Tab

NOT_COPIED = shutil.ignore_patterns("node_modules", "dist", "__pycache__", "*.pyc")


class AsItWas(Scribe):
    """The application before the gateway, in a checkout of its own, and the reader who changes it."""

    def __init__(self, directory: Path) -> None:
        checkout = directory / "checkout"
        here = checkout / "examples/fastapi"
        shutil.copytree(HERE, here, ignore=NOT_COPIED, symlinks=True)
        (checkout / "schema.sql").symlink_to(REPOSITORY / "schema.sql")
        # A link would be resolved by npm.
        for part in ("dist", "src"):
            shutil.copytree(REPOSITORY / "frontend" / part, checkout / "frontend" / part)
        shutil.copy(REPOSITORY / "frontend/package.json", checkout / "frontend")
        programs = directory / "bin"
        programs.mkdir()
        (programs / "notify-gateway").symlink_to(gateway_binary())
        super().__init__(directory, here=here, is_live=False)
        environment = {
            **os.environ,
            **self.app_environment,
            **self.gateway.addresses,
            "PATH": f"{programs}:{Path(sys.executable).parent}:{self.postgres.binaries}:{os.environ['PATH']}",
            "ADMIN_URL": self.postgres.url(),
            # `check` waits for half of it.
            "GATEWAY_HEARTBEAT": "2s",
        }
        examples = {"localhost:5432": f"127.0.0.1:{self.postgres.port}"}
        self.guide = Guide(HERE / "README.md", here, examples, environment)
        self.admin = f"http://127.0.0.1:{self.gateway.admin_port}"

    def start(self) -> None:
        """The database alone: the test starts the rest, and the page's commands start the gateway."""
        self.postgres.start()
        self.postgres.psql(application_role(self.name))

    def stop(self) -> None:
        self.guide.close()
        super().stop()

    def watched(self) -> str:
        return self.sql("SELECT relation, trigger FROM notify_gateway.watched")

    def tell(self, title: str) -> None:
        self.sql(
            f"""INSERT INTO notifications (id, user_id, kind, title, body)
                SELECT gen_random_uuid(), id, 'success', '{title}', '' FROM users WHERE name = 'Ada'"""
        )


@pytest.fixture
def world() -> Iterator[AsItWas]:
    with stack.running(AsItWas) as world:
        yield world


def shows(tab: Tab, bell: str, unread: int) -> None:
    expect(tab.page.locator(f"[data-bell={bell}]")).to_be_visible()
    tab.shows(unread)


def test_from_the_application_as_it_was_to_the_one_that_is_here(
    world: AsItWas, new_browser: Callable[..., BrowserContext]
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
    world.proxy.write_configuration()
    world.proxy.start()

    tab = Tab(world.url, new_browser()).log_in("Ada")
    shows(tab, "polling", 0)
    world.tell("Found by the next poll")
    tab.page.reload()
    shows(tab, "polling", 1)

    guide.follow("1. Roles")
    guide.follow("2. One migration")
    assert world.watched() == "notifications|always"
    # The application writes as before, and nobody listens yet.
    world.tell("Nobody listens")

    guide.follow("3. The gateway", {"gateway": lambda: answers(f"{world.admin}/readyz")})
    eventually("ready", lambda: httpx.get(f"{world.admin}/readyz").json()["ready"])

    guide.follow("4. One location in the proxy")
    stream = f"{world.url}/api/notifications/stream"
    # The application's own, which knows a notification by that name only to delete it.
    assert httpx.get(stream).status_code == 405
    world.proxy.write_configuration()
    world.proxy.reload()
    eventually("the gateway behind nginx", lambda: httpx.get(stream).status_code == 401)

    guide.follow("5. The page")
    package = json.loads((here / "frontend/package.json").read_text())
    assert package == json.loads((HERE / "frontend/package.json").read_text())
    # The flag is off: the bell is the same as before.
    tab.page.reload()
    shows(tab, "polling", 2)

    guide.follow("6. Switch it on")
    world.app.stop()
    world.app.start({"FEATURE_FLAGS": guide.run('printf %s "$FEATURE_FLAGS"')})
    tab.page.reload()
    shows(tab, "live", 2)
    world.tell("Live")
    shows(tab, "live", 3)
    tab.transcribe("interview.mp3")
    shows(tab, "live", 4)

    after = {path: path.read_bytes() for path in (here / "backend").rglob("*.py")}
    new = here / "backend/migrations/versions/0003_bell.py"
    assert {path for path in after if after[path] != before.get(path)} == {new}

    # The flag out: pages poll, whatever becomes of the rest.
    world.app.stop()
    world.app.start()
    guide.follow("The way back")
    assert world.sql("SELECT to_regnamespace('notify_gateway')") == ""
    tab.page.reload()
    shows(tab, "polling", 4)
    world.tell("As before")
    tab.page.reload()
    shows(tab, "polling", 5)
    # And on again.
    guide.run("cd backend && alembic upgrade head && alembic check")
    assert world.watched() == "notifications|always"
