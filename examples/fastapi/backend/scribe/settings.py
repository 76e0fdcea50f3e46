from pathlib import Path

from pydantic_settings import BaseSettings


class Settings(BaseSettings):
    """Each is an environment variable of the same name, in capitals."""

    database_url: str = "postgresql+asyncpg://scribe:scribe@localhost:5432/scribe"
    jwt_secret_file: Path = Path("jwt-secret")
    access_token_seconds: int = 15 * 60
    refresh_token_seconds: int = 14 * 24 * 60 * 60
    #: False where the page is served without TLS, as on a developer's machine.
    cookie_secure: bool = True
    #: How long the transcription of a file takes.
    transcription_seconds: float = 0.5
    #: What is switched on, as JSON: ["dark_mode"]
    feature_flags: set[str] = set()

    @property
    def jwt_secret(self) -> str:
        return self.jwt_secret_file.read_text().strip()


settings = Settings()
