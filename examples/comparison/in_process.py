"""Scribe with a stream of its own: LISTEN in the application's process, and a queue for each page.

This is the usual tutorial, written with care: heartbeats, bounded queues, a listener that connects
again, streams that end with the server. It has no cursor, so it cannot send what a page has missed.
"""

import asyncio
import json
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg
from fastapi import APIRouter, FastAPI
from sse_starlette import EventSourceResponse, ServerSentEvent

from scribe.auth import UserId
from scribe.main import app
from scribe.settings import settings

#: Of the trigger in in_process.sql.
CHANNEL = "new_notification"
HEARTBEAT_SECONDS = 30
RETRY_MS = 3000
#: A page that is further behind than this misses rows.
QUEUE_ROWS = 256

queues: defaultdict[uuid.UUID, set[asyncio.Queue[dict]]] = defaultdict(set)


def notified(_connection: object, _pid: int, _channel: str, payload: object) -> None:
    row = json.loads(str(payload))
    for queue in queues.get(uuid.UUID(row["user_id"]), ()):
        with suppress(asyncio.QueueFull):
            queue.put_nowait(row)


async def listen() -> None:
    """Listens for as long as the application runs, over one connection after the other."""
    url = settings.database_url.replace("postgresql+asyncpg", "postgresql")
    while True:
        try:
            connection = await asyncpg.connect(url)
            try:
                lost = asyncio.Event()
                connection.add_termination_listener(lambda _, lost=lost: lost.set())
                await connection.add_listener(CHANNEL, notified)
                await lost.wait()
            finally:
                connection.terminate()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            pass
        await asyncio.sleep(1)


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    listening = asyncio.create_task(listen())
    yield
    listening.cancel()


router = APIRouter(prefix="/api/notifications", lifespan=lifespan)


@router.get("/stream")
async def stream(user_id: UserId) -> EventSourceResponse:
    return EventSourceResponse(events(user_id), ping=HEARTBEAT_SECONDS)


async def events(user_id: uuid.UUID) -> AsyncIterator[ServerSentEvent]:
    queue: asyncio.Queue[dict] = asyncio.Queue(QUEUE_ROWS)
    queues[user_id].add(queue)
    try:
        yield ServerSentEvent(event="connected", data="{}", retry=RETRY_MS)
        while True:
            row = await queue.get()
            yield ServerSentEvent(event="notification", data=json.dumps(as_shown(row)))
    finally:
        queues[user_id].discard(queue)
        if not queues[user_id]:
            del queues[user_id]


def as_shown(row: dict) -> dict:
    """The fields that GET /api/notifications gives."""
    return {
        "id": row["id"],
        "type": row["kind"],
        "title": row["title"],
        "message": row["body"],
        "link": row["link"],
        "status": "unread" if row["read_at"] is None else "read",
        "created_at": row["created_at"],
    }


app.include_router(router)
