"""Browsers for the tests of the examples."""

import shutil
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright

expect.set_options(timeout=20_000)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    found = filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"]))
    program = next(found, None)
    assert program is not None, "Chromium is not there; for example: apt-get install chromium"
    with sync_playwright() as playwright:
        # Its sandbox needs what a container rarely has.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def new_browser(browser: Browser) -> Iterator[Callable[..., BrowserContext]]:
    """Makes browsers that share nothing, as on two devices; they are closed after the test."""
    contexts: list[BrowserContext] = []

    def new(**options) -> BrowserContext:
        contexts.append(browser.new_context(**options))
        return contexts[-1]

    yield new
    for context in contexts:
        context.close()
