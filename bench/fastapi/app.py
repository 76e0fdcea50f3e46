"""Two peers in one application: FastAPI that listens in its own process, and
FastAPI that polls the table for each stream (`POLL_SECONDS` set).

Tokens are verified, there are heartbeats; there is no cursor. A poll begins at
the moment a stream opens.
"""

import asyncio
import json
import os
from collections import defaultdict
from contextlib import asynccontextmanager
from datetime import datetime, timezone

import asyncpg
import jwt
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sse_starlette import EventSourceResponse, ServerSentEvent

SECRET = os.environ["JWT_SECRET"]
DATABASE_URL = os.environ["DATABASE_URL"]
CHANNEL = os.environ["CHANNEL"]
HEARTBEAT_SECONDS = int(os.environ["HEARTBEAT_SECONDS"])
POLL_SECONDS = float(os.environ.get("POLL_SECONDS", 0))

POLL = """
    SELECT id::text, type, title, message, status, created_at
    FROM notifications WHERE user_id = $1 AND created_at > $2 ORDER BY created_at
"""

queues = defaultdict(set)


def notified(_connection, _pid, _channel, payload):
    row = json.loads(payload)
    for queue in queues.get(row["user_id"], ()):
        try:
            queue.put_nowait(row["data"])
        except asyncio.QueueFull:
            pass


@asynccontextmanager
async def lifespan(app):
    async with asyncpg.create_pool(DATABASE_URL, min_size=1, max_size=16) as app.state.pool:
        if POLL_SECONDS:
            yield
            return
        async with app.state.pool.acquire() as connection:
            await connection.add_listener(CHANNEL, notified)
            yield
            await connection.remove_listener(CHANNEL, notified)


app = FastAPI(lifespan=lifespan)


def current_user(credentials: HTTPAuthorizationCredentials = Depends(HTTPBearer())):
    try:
        return jwt.decode(credentials.credentials, SECRET, algorithms=["HS256"])["sub"]
    except jwt.PyJWTError:
        raise HTTPException(status_code=401) from None


@app.get("/api/notifications/stream")
async def stream(request: Request, user: str = Depends(current_user)):
    events = polled(request.app.state.pool, user) if POLL_SECONDS else listened(user)
    return EventSourceResponse(events, ping=HEARTBEAT_SECONDS, ping_message_factory=heartbeat)


def heartbeat():
    return ServerSentEvent(event="heartbeat", data="{}")


async def listened(user):
    queue = asyncio.Queue(maxsize=256)
    queues[user].add(queue)
    try:
        yield ServerSentEvent(event="connected", data="{}")
        while True:
            row = await queue.get()
            yield ServerSentEvent(event="notification", data=json.dumps(row))
    finally:
        queues[user].discard(queue)
        if not queues[user]:
            del queues[user]


async def polled(pool, user):
    since = datetime.now(timezone.utc)
    yield ServerSentEvent(event="connected", data="{}")
    while True:
        for row in await pool.fetch(POLL, user, since):
            since = row["created_at"]
            yield ServerSentEvent(event="notification", data=json.dumps(dict(row), default=str))
        await asyncio.sleep(POLL_SECONDS)
