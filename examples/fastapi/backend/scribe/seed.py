"""Users to log in as: python -m scribe.seed"""

import asyncio

from .auth import passwords
from .database import engine, new_session
from .models import User

PASSWORD = "bell"
NAMES = ["Ada", "Grace", "Linus"]


async def seed() -> None:
    password_hash = passwords.hash(PASSWORD)
    async with new_session() as session:
        for name in NAMES:
            email = f"{name.lower()}@example.com"
            session.add(User(name=name, email=email, password_hash=password_hash))
        await session.commit()
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(seed())
