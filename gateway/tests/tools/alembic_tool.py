"""What Alembic thinks of a watched database.

alembic_tool.py create | check | drop, with DATABASE_URL.
"""

import os
import sys

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.dialects import postgresql as pg

metadata = sa.MetaData()
notifications = sa.Table(
    "notifications",
    metadata,
    sa.Column("id", pg.UUID, primary_key=True, server_default=sa.text("gen_random_uuid()")),
    sa.Column("user_id", pg.UUID, nullable=False, index=True),
    sa.Column("type", sa.String(20), nullable=False, server_default="info"),
    sa.Column("title", sa.Text),
    sa.Column("message", sa.Text),
    sa.Column("status", sa.String(20), nullable=False, server_default="unread"),
    sa.Column("metadata", pg.JSONB),
    sa.Column("related_session_id", pg.UUID),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
)


def check(connection):
    for options in [
        {},
        # As docs/database.md has it.
        {
            "include_schemas": True,
            "include_name": lambda name, kind, parents: kind != "schema" or name != "notify_gateway",
        },
    ]:
        options |= {"compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        difference = compare_metadata(context, metadata)
        assert not difference, difference


engine = sa.create_engine(os.environ["DATABASE_URL"].replace("postgres://", "postgresql+psycopg://"))
match sys.argv[1]:
    case "create":
        metadata.create_all(engine)
    case "check":
        with engine.connect() as connection:
            check(connection)
    case "drop":
        metadata.drop_all(engine)
