"""The bell rings for notifications."""

from pathlib import Path

from alembic import op

revision = "0003"
down_revision = "0002"

# What `notify-gateway schema` prints.
SCHEMA = Path(__file__).with_suffix(".sql")

WATCH = """
SELECT notify_gateway.watch('notifications', data => '{
  "id": "id", "type": "kind", "title": "title", "message": "body", "link": "link",
  "status": "CASE WHEN read_at IS NULL THEN ''unread'' ELSE ''read'' END",
  "created_at": "created_at"}')
"""


def upgrade() -> None:
    op.execute(SCHEMA.read_text())
    op.execute(WATCH)


def downgrade() -> None:
    op.execute("SELECT notify_gateway.uninstall()")
