"""Chromium, for the tests of the examples."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright
from stack import REPOSITORY, NotThere

NAMES = ("chromium", "chromium-browser", "google-chrome")

expect.set_options(timeout=20_000)


@contextmanager
def chromium() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        raise NotThere("Chromium is not there; for example: apt-get install chromium")
    with sync_playwright() as playwright:
        # Its sandbox needs what a container rarely has.
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


def picture(page: Page, name: str) -> None:
    """Draws the picture docs/pictures/NAME.png anew, where `PICTURES` is set."""
    if os.environ.get("PICTURES"):
        page.screenshot(path=REPOSITORY / f"docs/pictures/{name}.png", animations="disabled")
