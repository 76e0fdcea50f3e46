"""A user of Scribe, for the tests."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import count

import httpx

from event_stream import EventStream, open_stream
from scribe_stack import PASSWORD, Scribe

numbers = count(1)


@dataclass
class Person:
    """A user who is logged in, and what they do over the application's API."""

    id: str
    name: str
    token: str
    api: httpx.Client

    def stream(self, **parameters: str) -> AbstractContextManager[EventStream]:
        url = str(self.api.base_url.join("/api/notifications/stream"))
        return open_stream(url, self.token, **parameters)

    def transcribe(self, file_name: str) -> None:
        self.api.post("/api/transcriptions", json={"file_name": file_name}).raise_for_status()

    def comment(self, body: str) -> None:
        self.api.post("/api/comments", json={"body": body}).raise_for_status()

    def is_told(self, scribe: Scribe, *titles: str) -> None:
        """What a DBA types into psql."""
        for title in titles:
            quoted = title.replace("'", "''")
            scribe.sql(
                f"""INSERT INTO notifications (id, user_id, kind, title, body)
                    VALUES (gen_random_uuid(), '{self.id}', 'success', '{quoted}', '')"""
            )

    def unread(self) -> int:
        return self.api.get("/api/notifications/unread-count").json()["unread_count"]


def new_person(scribe: Scribe, name: str) -> Person:
    """A new user, so that no stream carries rows of an earlier test."""
    name = f"{name}{next(numbers)}"
    email = f"{name.lower()}@example.com"
    scribe.sql(
        f"""INSERT INTO users (id, email, name, password_hash)
            SELECT gen_random_uuid(), '{email}', '{name}', password_hash FROM users WHERE name = 'Ada'"""
    )
    api = httpx.Client(base_url=scribe.url, timeout=20)
    answer = api.post("/api/auth/login", json={"email": email, "password": PASSWORD}).raise_for_status()
    token = answer.json()["access_token"]
    api.headers["Authorization"] = f"Bearer {token}"
    return Person(answer.json()["user"]["id"], name, token, api)
