"""A peer: pg-sse, a library that is published for this. Its trigger notifies the
user alone; each stream that is woken reads the table from its cursor.

What it asks of a table: a number that rises with the commits (`order_column`).
Tokens are verified, there are heartbeats, and a client comes back with its cursor.
"""

import os
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated

import asyncpg
import jwt
from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pg_sse import Event, Hub, IntCursor

SECRET = os.environ["JWT_SECRET"]
DATABASE_URL = os.environ["DATABASE_URL"]
HEARTBEAT_SECONDS = int(os.environ["HEARTBEAT_SECONDS"])

LATEST = "SELECT coalesce(max(number), 0) FROM notifications WHERE user_id = $1"
AFTER = """
    SELECT number, json_build_object('id', id, 'type', type, 'title', title, 'message', message,
                                     'status', status, 'metadata', metadata, 'created_at', created_at,
                                     'related_session_id', related_session_id)::text
    FROM notifications WHERE user_id = $1 AND number > $2 ORDER BY number LIMIT 500
"""

hub = Hub(
    DATABASE_URL,
    channel="user_change",
    max_subscribers=100_000,
    max_stream_seconds=float("inf"),
    ping_seconds=(HEARTBEAT_SECONDS, HEARTBEAT_SECONDS),
)
cursors = IntCursor()


@asynccontextmanager
async def lifespan(app):
    async with asyncpg.create_pool(DATABASE_URL, min_size=1, max_size=16) as app.state.pool, hub.lifespan():
        yield


app = FastAPI(lifespan=lifespan)


def current_user(credentials: HTTPAuthorizationCredentials = Depends(HTTPBearer())):
    try:
        return jwt.decode(credentials.credentials, SECRET, algorithms=["HS256"])["sub"]
    except jwt.PyJWTError:
        raise HTTPException(status_code=401) from None


@app.get("/api/notifications/stream")
async def stream(user: str = Depends(current_user), last_event_id: Annotated[str | None, Header()] = None):
    return hub.sse(
        user,
        read=partial(read_after, user),
        cursor=cursors.parse_one(last_event_id),
        start=partial(latest, user),
    )


async def read_after(user, after):
    rows = await app.state.pool.fetch(AFTER, user, after)
    return [Event(data, id=number, event="notification") for number, data in rows]


async def latest(user):
    return await app.state.pool.fetchval(LATEST, user)
