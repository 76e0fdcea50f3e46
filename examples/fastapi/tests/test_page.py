"""The page in Chromium, through nginx, beside the real gateway."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

import pytest
from playwright.sync_api import BrowserContext, expect

from person import Person, new_person
from scribe_stack import Scribe, running
from stack import REPOSITORY, eventually
from tab import Tab

SIZE = {"width": 900, "height": 640}


def picture(tab: Tab, name: str) -> None:
    """Draws the picture docs/pictures/NAME.png anew, where `PICTURES` is set."""
    if os.environ.get("PICTURES"):
        path = REPOSITORY / f"docs/pictures/{name}.png"
        tab.page.screenshot(path=path, animations="disabled")


NewTab = Callable[..., Tab]


@pytest.fixture
def new_tab(scribe: Scribe, new_browser: Callable[..., BrowserContext]) -> NewTab:
    """In a new browser for each call, unless one is given."""
    return lambda context=None: Tab(scribe.url, context or new_browser(viewport=SIZE))


def streams_opened(scribe: Scribe) -> float:
    """How many there have been, the open ones with them."""
    metrics = scribe.gateway.metrics()
    return metrics["sse_connection_duration_seconds_count"] + metrics["sse_connections_total"]


def has_streams(scribe: Scribe, number: int) -> None:
    eventually(f"{number} streams", lambda: scribe.gateway.metrics()["sse_connections_total"] == number)


@contextmanager
def the_same_stream(scribe: Scribe) -> Iterator[None]:
    """What happens meanwhile ends no stream and opens none."""
    has_streams(scribe, 1)
    opened = streams_opened(scribe)
    yield
    assert streams_opened(scribe) == opened


def test_a_job_rings_the_bell_within_a_second(scribe: Scribe, ada: Person, new_tab: NewTab) -> None:
    tab = new_tab()
    picture(tab, "example-login")
    tab.log_in(ada.name).shows(0)
    has_streams(scribe, 1)
    # When the badge changes, by the clock that the row has its time from.
    tab.page.evaluate(
        """() => { window.changes = []; new MutationObserver(() => window.changes.push(Date.now()))
             .observe(document.querySelector('[data-bell] button'), { subtree: true, childList: true,
               characterData: true, attributes: true, attributeFilter: ['aria-label'] }); }"""
    )
    waits = []
    for unread, file_name in enumerate(["interview.mp3", "lecture.wav", "meeting.ogg"], start=1):
        tab.transcribe(file_name)
        tab.shows(unread)
        expect(tab.page.locator("[data-sonner-toast]", has_text=file_name)).to_be_visible()
        changed = tab.page.evaluate("() => window.changes.at(-1) / 1000")
        row = ada.api.get("/api/notifications?limit=1").json()["notifications"][0]
        waits.append(changed - datetime.fromisoformat(row["created_at"]).timestamp())
    assert statistics.median(waits) < 1
    picture(tab, "example-toast")
    tab.open_panel()
    expect(tab.entry("interview.mp3")).to_be_visible()
    picture(tab, "example-panel")


def test_two_users_see_each_their_own(ada: Person, grace: Person, new_tab: NewTab) -> None:
    of_ada, of_grace = new_tab().log_in(ada.name), new_tab().log_in(grace.name)
    of_ada.comment(f"Have a look, @{grace.name}!")
    of_grace.shows(1)
    of_grace.open_panel()
    expect(of_grace.entry(f"{ada.name} mentioned you")).to_be_visible()
    picture(of_grace, "example-mention")
    of_grace.comment(f"I did, @{ada.name}.")
    of_ada.shows(1)


def test_what_a_dba_types_is_there(scribe: Scribe, ada: Person, new_tab: NewTab) -> None:
    tab = new_tab().log_in(ada.name)
    ada.is_told(scribe, "Typed in psql")
    tab.shows(1)
    tab.open_panel()
    expect(tab.entry("Typed in psql")).to_be_visible()
    scribe.sql(f"UPDATE notifications SET title = 'Typed better' WHERE user_id = '{ada.id}'")
    expect(tab.entry("Typed better")).to_be_visible()
    expect(tab.entry("Typed in psql")).to_have_count(0)


def test_what_is_read_and_deleted_in_one_browser_is_so_in_the_other(
    scribe: Scribe, ada: Person, new_tab: NewTab
) -> None:
    desk, sofa = new_tab().log_in(ada.name), new_tab().log_in(ada.name)
    ada.is_told(scribe, "First", "Second")
    for tab in (desk, sofa):
        tab.shows(2)
    desk.open_panel()
    sofa.open_panel()
    desk.entry("First").get_by_role("button", name="Mark as read").click()
    for tab in (desk, sofa):
        tab.shows(1)
    picture(sofa, "example-read")
    desk.entry("Second").get_by_role("button", name="Delete").click()
    for tab in (desk, sofa):
        tab.shows(0)
        expect(tab.entry("Second")).to_have_count(0)
    assert scribe.sql(f"SELECT title FROM notifications WHERE user_id = '{ada.id}'") == "First"


def test_a_second_tab_shares_the_stream_and_shows_the_same(scribe: Scribe, ada: Person, new_tab: NewTab) -> None:
    has_streams(scribe, 0)
    first = new_tab().log_in(ada.name)
    second = new_tab(first.page.context)
    # The refresh token is the browser's.
    expect(second.page.get_by_text(f"Logged in as {ada.name}")).to_be_visible()
    second.shows(0)
    has_streams(scribe, 1)
    ada.is_told(scribe, "For both")
    first.shows(1)
    second.shows(1)
    assert scribe.gateway.metrics()["sse_connections_total"] == 1
    first.page.close()
    ada.is_told(scribe, "For the one that is left")
    second.shows(2)


def test_the_next_user_of_the_tab_sees_nothing_of_the_one_before(
    scribe: Scribe, ada: Person, grace: Person, new_tab: NewTab
) -> None:
    tab = new_tab().log_in(ada.name)
    ada.is_told(scribe, "A secret of Ada's")
    tab.shows(1)
    tab.log_out()
    expect(tab.page.get_by_text("A secret of Ada's")).to_have_count(0)
    has_streams(scribe, 0)
    tab.log_in(grace.name).shows(0)
    ada.is_told(scribe, "Another secret of Ada's")
    grace.is_told(scribe, "For Grace")
    tab.shows(1)
    tab.open_panel()
    expect(tab.entry("For Grace")).to_be_visible()
    expect(tab.page.get_by_text("secret of Ada's")).to_have_count(0)


@contextmanager
def app_with(scribe: Scribe, **settings: str) -> Iterator[None]:
    """The application with other settings, for a while."""
    scribe.app.stop()
    scribe.app.start(settings)
    try:
        yield
    finally:
        scribe.app.stop()
        scribe.app.start()


def test_a_token_that_expires_is_renewed_and_nobody_notices(scribe: Scribe, ada: Person, new_tab: NewTab) -> None:
    with app_with(scribe, ACCESS_TOKEN_SECONDS="3"):
        tab = new_tab().log_in(ada.name)
        has_streams(scribe, 1)
        opened = streams_opened(scribe)
        eventually("a stream with another token", lambda: streams_opened(scribe) > opened)
        ada.is_told(scribe, "Behind the first token")
        tab.shows(1)
        expect(tab.page.get_by_text(f"Logged in as {ada.name}")).to_be_visible()


def test_a_reload_of_nginx_costs_no_stream(scribe: Scribe, ada: Person, new_tab: NewTab) -> None:
    tab = new_tab().log_in(ada.name)
    with the_same_stream(scribe):
        scribe.proxy.reload()
        ada.is_told(scribe, "Through the old worker")
        tab.shows(1)
    # What the page asks for itself goes through the new one.
    tab.transcribe("after.mp3")
    tab.shows(2)


def test_an_upgrade_of_the_gateway_loses_nothing_and_doubles_nothing(
    scribe: Scribe, ada: Person, new_tab: NewTab
) -> None:
    tab = new_tab().log_in(ada.name)
    ada.is_told(scribe, "Before")
    tab.shows(1)
    scribe.gateway.stop()
    ada.is_told(scribe, "Meanwhile")
    picture(tab, "example-gateway-away")
    scribe.gateway.start()
    has_streams(scribe, 1)
    ada.is_told(scribe, "After")
    tab.shows(3)
    tab.open_panel()
    for title in ("Before", "Meanwhile", "After"):
        expect(tab.entry(title)).to_have_count(1)


def test_streams_do_not_notice_a_restart_of_the_application(scribe: Scribe, ada: Person, new_tab: NewTab) -> None:
    tab = new_tab().log_in(ada.name)
    with the_same_stream(scribe):
        scribe.app.stop()
        ada.is_told(scribe, "While the application is away")
        tab.shows(1)
        picture(tab, "example-application-away")
        scribe.app.start()
        tab.transcribe("and-back.mp3")
        tab.shows(2)


def test_streams_outlive_a_restart_of_postgres(scribe: Scribe, ada: Person, new_tab: NewTab) -> None:
    tab = new_tab().log_in(ada.name)
    with the_same_stream(scribe):
        scribe.postgres.stop()
        scribe.postgres.start()
        ada.is_told(scribe, "As soon as it is back")
        tab.shows(1)


def test_the_flag_switches_between_the_two_bells(scribe: Scribe, ada: Person, new_tab: NewTab) -> None:
    with app_with(scribe, FEATURE_FLAGS="[]"):
        tab = new_tab().log_in(ada.name)
        expect(tab.page.locator("[data-bell=polling]")).to_be_visible()
        ada.is_told(scribe, "Found by polling")
        has_streams(scribe, 0)
        tab.page.reload()
        tab.shows(1)
        tab.open_panel()
        picture(tab, "example-polling")
    tab.page.reload()
    expect(tab.page.locator("[data-bell=live]")).to_be_visible()
    has_streams(scribe, 1)
    ada.is_told(scribe, "Live")
    tab.shows(2)


def test_it_rings_behind_caddy_as_well(new_browser: Callable[..., BrowserContext]) -> None:
    with running(proxy="caddy", gateway_settings={"GATEWAY_DRAIN": "1s"}) as scribe:
        ada = new_person(scribe, "Ada")
        tab = Tab(scribe.url, new_browser(viewport=SIZE)).log_in(ada.name)
        has_streams(scribe, 1)
        tab.transcribe("interview.mp3")
        tab.shows(1)
        scribe.gateway.stop()
        ada.is_told(scribe, "While the gateway is away")
        scribe.gateway.start()
        tab.shows(2)
        # Caddy waits for open streams when it is stopped.
        tab.page.context.close()
