"""What is measured of one way in one round."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import asyncpg

from report import GATEWAY, POLLING, percentile
from stack import Program
from ways import Compared, Pages, running


@dataclass(frozen=True)
class Plan:
    """How much, and for how long; times in seconds."""

    streams: int = 1000
    poll: float = 30
    #: Over which the streams are opened.
    ramp: float = 10
    #: How long nothing happens.
    idle: float = 30
    #: How long rows are committed, and other requests made.
    live: float = 45
    rows_a_second: float = 20
    requests_a_second: float = 20
    #: Of a deployment: rows are committed for so long before it, the programs are away for so long,
    #: and rows go on for so long when they are back.
    before: float = 3
    away: float = 2
    after: float = 8
    #: How long after the last row a page may learn of it.
    late: float = 40


QUICK = Plan(streams=20, poll=3, ramp=1, idle=3, live=5, before=1, after=2, late=8)

INSERT = """
INSERT INTO notifications (id, user_id, kind, title, body)
VALUES ($1, $2, 'success', 'Transcription ready', 'interview-17.mp3')
"""


async def measure(way: str, plan: Plan) -> dict[str, float]:
    """The figures of one way, on a stack of its own. Times in ms, memory in MiB."""
    with running({way}, plan.streams) as stack:
        figures: dict[str, float] = {}
        for _ in range(2):
            # What the application loads at its first requests is not of the pages.
            async with requests(stack, plan.requests_a_second):
                await asyncio.sleep(1)
        figures["memory_before"] = stack.memory_mib(stack.app)
        pages = Pages(stack, count=plan.streams, polls=way == POLLING, poll_seconds=plan.poll, ramp_seconds=plan.ramp)
        try:
            opening = plan.ramp + plan.poll + 20
            await until("the pages are open", lambda: pages.open() == plan.streams, opening)
            figures |= await idle(stack, plan)
            figures |= await live(stack, pages, plan)
            figures["memory_with"] = stack.memory_mib(stack.app)
            figures["memory_gateway"] = stack.memory_mib(stack.gateway) if way == GATEWAY else 0
            figures |= await deploy(stack, pages, plan)
        finally:
            pages.close()
    return figures


async def idle(stack: Compared, plan: Plan) -> dict[str, float]:
    before = stack.requests()
    await asyncio.sleep(plan.idle)
    return {"requests_a_minute": (stack.requests() - before) / plan.idle * 60}


async def live(stack: Compared, pages: Pages, plan: Plan) -> dict[str, float]:
    """Rows come, and the application answers other requests besides."""
    async with rows(stack, plan.rows_a_second) as committed, requests(stack, plan.requests_a_second) as answers:
        await asyncio.sleep(plan.live)
    heard = await all_heard(pages, committed, plan)
    bells = [(heard[row] - at) * 1000 for row, at in committed.items() if row in heard]
    return {
        "bell_p50": percentile(bells, 0.5),
        "bell_p99": percentile(bells, 0.99),
        "live_rows": len(committed),
        "live_lost": len(committed) - len(bells),
        "answer_p50": percentile(answers.took_ms, 0.5),
        "answer_p99": percentile(answers.took_ms, 0.99),
        "live_failed": answers.failed,
    }


async def deploy(stack: Compared, pages: Pages, plan: Plan) -> dict[str, float]:
    """What runs beside the database stops, is away, and starts, while rows are committed."""
    before = pages.counts()
    async with rows(stack, plan.rows_a_second) as committed, requests(stack, plan.requests_a_second) as answers:
        await asyncio.sleep(plan.before)
        await asyncio.gather(*(asyncio.to_thread(restart, part, plan.away) for part in stack.deployed))
        await asyncio.sleep(plan.after)
    heard = await all_heard(pages, committed, plan)
    counts = pages.counts()
    bells = [heard[row] - at for row, at in committed.items() if row in heard]
    return {
        "deploy_rows": len(committed),
        "deploy_lost": len(committed) - len(bells),
        "deploy_slowest_s": max(bells),
        "deploy_failed": answers.failed,
        "deploy_asked": answers.failed + len(answers.took_ms),
        "deploy_pages_failed": counts.get("failed", 0) - before.get("failed", 0),
        "deploy_streams_ended": counts.get("ended", 0) - before.get("ended", 0),
    }


def restart(part: Program, away: float) -> None:
    part.stop()
    time.sleep(away)
    part.start()


async def all_heard(pages: Pages, committed: dict[str, float], plan: Plan) -> dict[str, float]:
    """What the pages have heard when they know every row, or it is too late."""
    end = time.monotonic() + plan.late
    while True:
        heard = await asyncio.to_thread(pages.heard)
        if committed.keys() <= heard.keys() or time.monotonic() > end:
            return heard
        await asyncio.sleep(1)


async def until(what: str, condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not await asyncio.to_thread(condition):
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds} s")
        await asyncio.sleep(0.5)


@asynccontextmanager
async def rows(stack: Compared, per_second: float) -> AsyncIterator[dict[str, float]]:
    """Commits rows to random users at random moments; when each was committed, by its id."""
    committed: dict[str, float] = {}
    connection = await asyncpg.connect(stack.postgres.url("scribe", "scribe"))
    insert = await connection.prepare(INSERT)

    async def write() -> None:
        due = time.monotonic()
        while not done.is_set():
            due += random.expovariate(per_second)
            await asyncio.sleep(due - time.monotonic())
            row = uuid.uuid4()
            await insert.fetch(row, random.choice(stack.users))
            committed[str(row)] = time.monotonic()

    done = asyncio.Event()
    writing = asyncio.create_task(write())
    try:
        yield committed
    finally:
        done.set()
        await writing
        await connection.close()


@dataclass
class Answers:
    took_ms: list[float] = field(default_factory=list)
    failed: int = 0


@asynccontextmanager
async def requests(stack: Compared, per_second: float) -> AsyncIterator[Answers]:
    """Asks the application for the number of unread rows, whether the last answer has come or not."""
    answers = Answers()
    headers = {"Authorization": f"Bearer {stack.token(stack.users[0])}"}
    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(stack.url, headers=headers, timeout=timeout) as session:

        async def ask() -> None:
            began = time.monotonic()
            try:
                async with session.get("/api/notifications/unread-count") as answer:
                    answer.raise_for_status()
                    await answer.read()
            except (aiohttp.ClientError, TimeoutError):
                answers.failed += 1
            else:
                answers.took_ms.append((time.monotonic() - began) * 1000)

        async def ask_all() -> None:
            due = time.monotonic()
            async with asyncio.TaskGroup() as asking:
                while not done.is_set():
                    due += 1 / per_second
                    await asyncio.sleep(due - time.monotonic())
                    asking.create_task(ask())

        done = asyncio.Event()
        asking_all = asyncio.create_task(ask_all())
        try:
            yield answers
        finally:
            done.set()
            await asking_all
