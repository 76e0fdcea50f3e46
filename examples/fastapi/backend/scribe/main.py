from fastapi import FastAPI

from . import auth, comments, notifications, transcriptions
from .settings import settings

app = FastAPI(title="Scribe")
for part in (auth, notifications, transcriptions, comments):
    app.include_router(part.router)


@app.get("/api/flags")
async def flags() -> dict[str, bool]:
    """What is switched on for the page."""
    return dict.fromkeys(settings.feature_flags, True)
