"""Who is there: an access token for the API, and a refresh token in a cookie that gets the next one."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Annotated

import jwt
from fastapi import APIRouter, Cookie, Depends, HTTPException, Response, status
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pwdlib import PasswordHash
from pydantic import BaseModel, ConfigDict
from sqlalchemy import select

from .database import Session
from .models import User
from .settings import settings

ACCESS = "scribe"
REFRESH = "scribe:refresh"
REFRESH_COOKIE = "refresh_token"
COOKIE_PATH = "/api/auth"

router = APIRouter(prefix=COOKIE_PATH, tags=["auth"])
passwords = PasswordHash.recommended()
bearer = HTTPBearer()
NOBODY = passwords.hash("")


class Credentials(BaseModel):
    email: str
    password: str


class UserOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: uuid.UUID
    name: str
    email: str


class LoginOut(BaseModel):
    access_token: str
    user: UserOut


def issue(user_id: uuid.UUID, audience: str, seconds: int) -> str:
    now = datetime.now(UTC)
    claims = {"sub": str(user_id), "aud": audience, "iat": now, "exp": now + timedelta(seconds=seconds)}
    return jwt.encode(claims, settings.jwt_secret, algorithm="HS256")


def user_of(token: str, audience: str) -> uuid.UUID:
    try:
        claims = jwt.decode(token, settings.jwt_secret, algorithms=["HS256"], audience=audience)
    except jwt.InvalidTokenError as error:
        raise HTTPException(status.HTTP_401_UNAUTHORIZED, "not a valid token") from error
    return uuid.UUID(claims["sub"])


def current_user_id(credentials: Annotated[HTTPAuthorizationCredentials, Depends(bearer)]) -> uuid.UUID:
    return user_of(credentials.credentials, ACCESS)


UserId = Annotated[uuid.UUID, Depends(current_user_id)]


def logged_in(user: User, response: Response) -> LoginOut:
    response.set_cookie(
        REFRESH_COOKIE,
        issue(user.id, REFRESH, settings.refresh_token_seconds),
        max_age=settings.refresh_token_seconds,
        path=COOKIE_PATH,
        httponly=True,
        secure=settings.cookie_secure,
        samesite="strict",
    )
    access_token = issue(user.id, ACCESS, settings.access_token_seconds)
    return LoginOut(access_token=access_token, user=UserOut.model_validate(user))


@router.post("/login")
async def login(credentials: Credentials, session: Session, response: Response) -> LoginOut:
    user = await session.scalar(select(User).where(User.email == credentials.email))
    # As slow for an address that nobody has.
    known = user.password_hash if user else NOBODY
    is_right = await run_in_threadpool(passwords.verify, credentials.password, known)
    if user is None or not is_right:
        raise HTTPException(status.HTTP_401_UNAUTHORIZED, "wrong e-mail or password")
    return logged_in(user, response)


@router.post("/refresh")
async def refresh(
    session: Session, response: Response, refresh_token: Annotated[str | None, Cookie()] = None
) -> LoginOut:
    user = await session.get(User, user_of(refresh_token or "", REFRESH))
    if user is None:
        raise HTTPException(status.HTTP_401_UNAUTHORIZED, "there is no such user any more")
    return logged_in(user, response)


@router.post("/logout", status_code=status.HTTP_204_NO_CONTENT)
async def logout(response: Response) -> None:
    response.delete_cookie(REFRESH_COOKIE, path=COOKIE_PATH)
