import uuid
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Query, status
from pydantic import BaseModel, Field
from sqlalchemy import delete, func, select, tuple_, update

from .auth import UserId
from .database import Session
from .models import Notification

router = APIRouter(prefix="/api/notifications", tags=["notifications"])


class NotificationOut(BaseModel):
    id: uuid.UUID
    type: str
    title: str
    message: str
    link: str | None
    status: Literal["read", "unread"]
    created_at: datetime

    @classmethod
    def of(cls, row: Notification) -> "NotificationOut":
        return cls(
            id=row.id,
            type=row.kind,
            title=row.title,
            message=row.body,
            link=row.link,
            status="unread" if row.read_at is None else "read",
            created_at=row.created_at,
        )


class Count(BaseModel):
    unread_count: int


class Page(Count):
    notifications: list[NotificationOut]
    #: What to give as `before` for the next page.
    next: uuid.UUID | None


class Ids(BaseModel):
    ids: list[uuid.UUID] = Field(max_length=200)


async def count_unread(session: Session, user_id: uuid.UUID) -> int:
    own = Notification.user_id == user_id
    query = select(func.count()).select_from(Notification).where(own, Notification.read_at.is_(None))
    return await session.scalar(query) or 0


@router.get("")
async def page(
    user_id: UserId,
    session: Session,
    limit: Annotated[int, Query(ge=1, le=200)] = 20,
    before: uuid.UUID | None = None,
) -> Page:
    # List and count as they are at one moment.
    await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    own = select(Notification).where(Notification.user_id == user_id)
    place = tuple_(Notification.created_at, Notification.id)
    if before is not None:
        last = select(Notification.created_at, Notification.id).where(Notification.id == before)
        own = own.where(place < last.scalar_subquery())
    newest = own.order_by(Notification.created_at.desc(), Notification.id.desc()).limit(limit)
    rows = (await session.scalars(newest)).all()
    return Page(
        notifications=[NotificationOut.of(row) for row in rows],
        unread_count=await count_unread(session, user_id),
        next=rows[-1].id if len(rows) == limit else None,
    )


@router.get("/unread-count")
async def unread_count(user_id: UserId, session: Session) -> Count:
    return Count(unread_count=await count_unread(session, user_id))


async def mark_read(session: Session, *which) -> None:
    unread = update(Notification).where(Notification.read_at.is_(None), *which)
    await session.execute(unread.values(read_at=func.now()))
    await session.commit()


@router.post("/read", status_code=status.HTTP_204_NO_CONTENT)
async def read(given: Ids, user_id: UserId, session: Session) -> None:
    await mark_read(session, Notification.user_id == user_id, Notification.id.in_(given.ids))


@router.post("/read-all", status_code=status.HTTP_204_NO_CONTENT)
async def read_all(user_id: UserId, session: Session) -> None:
    await mark_read(session, Notification.user_id == user_id)


@router.delete("/{notification_id}", status_code=status.HTTP_204_NO_CONTENT)
async def remove(notification_id: uuid.UUID, user_id: UserId, session: Session) -> None:
    own = (Notification.user_id == user_id, Notification.id == notification_id)
    removed = await session.execute(delete(Notification).where(*own))
    if removed.rowcount == 0:
        raise HTTPException(status.HTTP_404_NOT_FOUND, "you have no such notification")
    await session.commit()
