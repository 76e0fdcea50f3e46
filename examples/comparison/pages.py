"""The open pages: a process of its own that holds them and notes when each learns of which row.

Reads what to do as one line of JSON, and then commands, one a line. It ends with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

import aiohttp

#: Of a browser's EventSource where the server names no other time.
RETRY_SECONDS = 3.0
#: Twice the heartbeat: a page that hears nothing for so long connects again.
SILENCE_SECONDS = 60


@dataclass
class Seen:
    """What all the pages have learned, and how they fared."""

    #: When a page first had the row, by the clock that all processes of a machine share.
    heard: dict[str, float] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    #: Pages with an open stream; of a page that polls, with a list.
    open: set[int] = field(default_factory=set)

    def hear(self, row_id: str) -> None:
        self.heard.setdefault(row_id, time.monotonic())


@dataclass(frozen=True)
class Page:
    number: int
    session: aiohttp.ClientSession
    seen: Seen

    async def poll(self, seconds: float) -> None:
        """Asks for the list, from a random moment of the first interval on."""
        due = time.monotonic() + random.uniform(0, seconds)
        while True:
            await asyncio.sleep(due - time.monotonic())
            try:
                async with self.session.get("/api/notifications") as answer:
                    answer.raise_for_status()
                    for row in (await answer.json())["notifications"]:
                        self.seen.hear(row["id"])
                self.seen.open.add(self.number)
            except (aiohttp.ClientError, TimeoutError):
                self.seen.counts["failed"] += 1
            due = max(due + seconds, time.monotonic())

    async def stream(self, wait: float) -> None:
        """As the page's EventSource: connects, and again when a stream has ended."""
        cursor = ""
        retry = RETRY_SECONDS
        await asyncio.sleep(wait)
        while True:
            try:
                async for name, value in self.lines(cursor):
                    if name == "retry":
                        retry = int(value) / 1000
                    elif name == "id":
                        cursor = value
            except (aiohttp.ClientError, TimeoutError):
                pass
            if self.number in self.seen.open:
                self.seen.open.discard(self.number)
                self.seen.counts["ended"] += 1
            else:
                self.seen.counts["failed"] += 1
            await asyncio.sleep(retry)

    async def lines(self, cursor: str):
        """The lines `id` and `retry` of one stream; what the others say is noted."""
        headers = {"Accept": "text/event-stream"}
        if cursor:
            headers["Last-Event-ID"] = cursor
        event = ""
        async with self.session.get("/api/notifications/stream", headers=headers) as answer:
            answer.raise_for_status()
            async for line in answer.content:
                name, _, value = line.decode().rstrip("\r\n").partition(": ")
                if name == "event":
                    event = value
                    if event == "connected":
                        self.seen.open.add(self.number)
                elif name == "data" and event == "notification":
                    self.seen.hear(json.loads(value)["id"])
                elif name in ("id", "retry"):
                    yield name, value


async def main() -> None:
    commands = asyncio.StreamReader(limit=2**26)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    plan = json.loads(await commands.readline())
    seen = Seen()
    sessions = []
    running = set()
    timeout = aiohttp.ClientTimeout(total=plan["poll_seconds"] if plan["polls"] else None, sock_read=SILENCE_SECONDS)
    for number, token in enumerate(plan["tokens"]):
        # A browser has its own connection, and keeps it from one poll to the next.
        session = aiohttp.ClientSession(
            plan["url"],
            connector=aiohttp.TCPConnector(limit=1, keepalive_timeout=60),
            headers={"Authorization": f"Bearer {token}"},
            timeout=timeout,
        )
        page = Page(number, session, seen)
        wait = number / len(plan["tokens"]) * plan["ramp_seconds"]
        work = page.poll(plan["poll_seconds"]) if plan["polls"] else page.stream(wait)
        sessions.append(session)
        running.add(asyncio.create_task(work))
    while command := (await commands.readline()).decode().strip():
        answer: dict[str, object] = {"open": len(seen.open), "counts": dict(seen.counts)}
        if command == "heard":
            answer["heard"] = seen.heard
        if broken := [task for task in running if task.done()]:
            broken[0].result()
        print(json.dumps(answer), flush=True)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await asyncio.gather(*(session.close() for session in sessions))


if __name__ == "__main__":
    asyncio.run(main())
