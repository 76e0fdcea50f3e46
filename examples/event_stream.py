"""A reader of `text/event-stream`, as the HTML standard has it, for tests."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass
class Event:
    name: str
    id: str | None
    data: dict[str, Any]


class EventStream:
    """An open stream. A wait for the next event ends with an error after 20 s."""

    def __init__(self, response: httpx.Response) -> None:
        self.headers = response.headers
        self._lines = response.iter_lines()

    def next(self) -> Event:
        fields: dict[str, str] = {}
        for line in self._lines:
            if line == "" and "data" in fields:
                return Event(fields.get("event", "message"), fields.get("id"), json.loads(fields["data"]))
            name, _, value = line.partition(":")
            if name:
                fields[name] = value.removeprefix(" ")
        raise AssertionError("the stream has ended")

    def next_of(self, *names: str) -> Event:
        """The next event of one of these names; others are passed over. It comes within 20 s."""
        end = time.monotonic() + 20
        while (event := self.next()).name not in names:
            assert time.monotonic() < end, f"no {names}, but {event}"
        return event

    def ends(self) -> None:
        """Waits for the end of the stream."""
        for _ in self._lines:
            pass


@contextmanager
def open_stream(url: str, token: str, **parameters: str) -> Iterator[EventStream]:
    headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
    request = httpx.stream("GET", url, headers=headers, params=parameters, timeout=20)
    with request as response:
        assert response.status_code == 200, f"{response.status_code} {response.read()!r}"
        yield EventStream(response)
