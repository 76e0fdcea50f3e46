import asyncio
import uuid
from datetime import datetime

from fastapi import APIRouter, BackgroundTasks, status
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from .auth import UserId
from .database import Session, new_session
from .models import Notification, Transcription
from .settings import settings

router = APIRouter(prefix="/api/transcriptions", tags=["transcriptions"])


class File(BaseModel):
    file_name: str = Field(min_length=1, max_length=200)


class TranscriptionOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: uuid.UUID
    file_name: str
    status: str
    created_at: datetime


async def transcribe(transcription_id: uuid.UUID) -> None:
    """What a worker would do."""
    await asyncio.sleep(settings.transcription_seconds)
    async with new_session() as session:
        transcription = await session.get_one(Transcription, transcription_id)
        transcription.status = "done"
        session.add(
            Notification(
                user_id=transcription.user_id,
                kind="success",
                title="Transcription ready",
                body=transcription.file_name,
                link=f"#transcription-{transcription.id}",
            )
        )
        await session.commit()


@router.post("", status_code=status.HTTP_202_ACCEPTED)
async def start(file: File, user_id: UserId, session: Session, tasks: BackgroundTasks) -> TranscriptionOut:
    transcription = Transcription(user_id=user_id, file_name=file.file_name)
    session.add(transcription)
    await session.commit()
    await session.refresh(transcription)
    tasks.add_task(transcribe, transcription.id)
    return TranscriptionOut.model_validate(transcription)


@router.get("")
async def mine(user_id: UserId, session: Session) -> list[TranscriptionOut]:
    own = select(Transcription).where(Transcription.user_id == user_id)
    rows = await session.scalars(own.order_by(Transcription.created_at.desc()).limit(20))
    return [TranscriptionOut.model_validate(row) for row in rows]
