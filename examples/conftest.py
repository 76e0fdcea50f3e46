"""Browsers for the tests of the examples, and a word where the machine lacks a program."""

import os
import shutil
from collections.abc import Callable, Generator, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright

from stack import NotThere

expect.set_options(timeout=20_000)


def skipped_where_missing() -> Generator[None, object, object]:
    try:
        return (yield)
    except NotThere as missing:
        if os.environ.get("CI") or os.environ.get("CI_REQUIRE_BROWSER"):
            raise
        print(f"SKIPPED: {missing}")
        pytest.skip(str(missing))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, object, object]:
    return (yield from skipped_where_missing())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    return (yield from skipped_where_missing())


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    found = filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"]))
    program = next(found, None)
    if program is None:
        raise NotThere("Chromium is not there; for example: apt-get install chromium")
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
