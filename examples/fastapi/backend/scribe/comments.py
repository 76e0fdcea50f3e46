import re
import uuid
from datetime import datetime

from fastapi import APIRouter, status
from pydantic import BaseModel, Field
from sqlalchemy import func, select

from .auth import UserId
from .database import Session
from .models import Comment, Notification, User

router = APIRouter(prefix="/api/comments", tags=["comments"])


class Text(BaseModel):
    body: str = Field(min_length=1, max_length=2000)


class CommentOut(BaseModel):
    id: uuid.UUID
    author: str
    body: str
    created_at: datetime


@router.post("", status_code=status.HTTP_201_CREATED)
async def write(text: Text, user_id: UserId, session: Session) -> CommentOut:
    author = await session.get_one(User, user_id)
    comment = Comment(author_id=author.id, body=text.body)
    session.add(comment)
    await session.flush()
    names = {name.lower() for name in re.findall(r"@(\w+)", text.body)}
    mentioned = await session.scalars(select(User.id).where(func.lower(User.name).in_(names)))
    for mentioned_id in mentioned:
        session.add(
            Notification(
                user_id=mentioned_id,
                kind="info",
                title=f"{author.name} mentioned you",
                body=text.body,
                link=f"#comment-{comment.id}",
            )
        )
    await session.commit()
    await session.refresh(comment)
    return CommentOut(id=comment.id, author=author.name, body=comment.body, created_at=comment.created_at)


@router.get("")
async def newest(user_id: UserId, session: Session) -> list[CommentOut]:
    query = select(Comment, User.name).join(User, User.id == Comment.author_id)
    rows = await session.execute(query.order_by(Comment.created_at.desc()).limit(20))
    return [
        CommentOut(id=comment.id, author=name, body=comment.body, created_at=comment.created_at)
        for comment, name in rows
    ]
