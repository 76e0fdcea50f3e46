"""The page of Scribe in a browser, for the tests."""

from __future__ import annotations

import re

from playwright.sync_api import BrowserContext, Locator, expect

from scribe_stack import PASSWORD


class Tab:
    """A page of Scribe, and what one does on it."""

    def __init__(self, url: str, context: BrowserContext) -> None:
        self.page = context.new_page()
        self.page.goto(url)

    def log_in(self, name: str) -> Tab:
        self.page.get_by_label("E-mail").fill(f"{name.lower()}@example.com")
        self.page.get_by_label("Password").fill(PASSWORD)
        self.page.get_by_role("button", name="Log in").click()
        expect(self.page.get_by_text(f"Logged in as {name}")).to_be_visible()
        return self

    def log_out(self) -> None:
        self.page.get_by_role("button", name="Log out").click()
        expect(self.page.get_by_label("E-mail")).to_be_visible()

    def transcribe(self, file_name: str) -> None:
        self.page.get_by_label("File name").fill(file_name)
        self.page.get_by_role("button", name="Transcribe").click()

    def comment(self, body: str) -> None:
        self.page.get_by_label("Comment", exact=True).fill(body)
        self.page.get_by_role("button", name="Send").click()

    def shows(self, unread: int) -> None:
        name = f"Notifications, {unread} unread" if unread else "Notifications"
        expect(self.page.get_by_role("button", name=name, exact=True)).to_be_visible()

    def open_panel(self) -> None:
        self.page.get_by_role("button", name=re.compile("^Notifications")).click()

    def entry(self, title: str) -> Locator:
        return self.page.get_by_role("dialog").get_by_role("listitem").filter(has_text=title)
