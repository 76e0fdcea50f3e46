"""A database for each measurement, with the trigger that its server is to have and no
other.

Databases of a kind are copies of a template of the kind, so that nothing of the
measurement before is in them: no row, no bloat, no `notify_gateway.state`.
"""

import os
import subprocess

# Of the plain trigger.
CHANNEL = "rows"

NO_GATEWAY = "SELECT notify_gateway.unwatch('notifications');"

# What the gateway sends of a row: for peers to send the same.
DATA = (
    "json_build_object('id', NEW.id, 'type', NEW.type, 'title', NEW.title, 'message', NEW.message,"
    " 'status', NEW.status, 'metadata', NEW.metadata, 'created_at', NEW.created_at,"
    " 'related_session_id', NEW.related_session_id)"
)

PLAIN = f"""
CREATE FUNCTION notify_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('{CHANNEL}', json_build_object('user_id', NEW.user_id, 'data', {DATA})::text);
  RETURN NULL;
END $$;
CREATE TRIGGER notify_row AFTER INSERT ON notifications FOR EACH ROW EXECUTE FUNCTION notify_row();
"""

# As Centrifugo's documentation has it.
OUTBOX = f"""
CREATE TABLE centrifugo_outbox (
  id         BIGSERIAL PRIMARY KEY,
  method     text NOT NULL,
  payload    JSONB NOT NULL,
  partition  INTEGER NOT NULL DEFAULT 0,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL
);
CREATE FUNCTION centrifugo_notify_partition_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('centrifugo_partition_change', NEW.partition::text);
  RETURN NEW;
END $$;
CREATE TRIGGER centrifugo_notify_partition_change AFTER INSERT ON centrifugo_outbox
  FOR EACH ROW EXECUTE FUNCTION centrifugo_notify_partition_change();
CREATE FUNCTION publish_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO centrifugo_outbox (method, payload)
  VALUES ('publish', json_build_object('channel', 'user:#' || NEW.user_id, 'data', {DATA}));
  RETURN NULL;
END $$;
CREATE TRIGGER publish_row AFTER INSERT ON notifications FOR EACH ROW EXECUTE FUNCTION publish_row();
"""

# Who polls finds its rows by an index, and so does who reads from a cursor.
POLLED = "CREATE INDEX ON notifications (user_id, created_at);"
NUMBERED = """
ALTER TABLE notifications ADD COLUMN number bigserial;
CREATE INDEX ON notifications (user_id, number);
"""
PG_SSE = (
    "import pg_sse; print(pg_sse.trigger_sql('notifications', key_column='user_id',"
    " channel='user_change', order_column='number', on=('insert',)))"
)


class Databases:
    def __init__(self, postgres, python):
        """`postgres` as throwaway_postgres tells it; `python` has the peers' packages."""
        self.postgres = postgres
        self.python = python
        self.templates = set()

    def fresh(self, kind):
        """The URL of a new database; those before it are gone."""
        template = "postgres" if kind == "gateway" else f"template_{kind.replace('-', '_')}"
        if kind not in self.templates:
            if kind != "gateway":
                self._sql("template1", f"CREATE DATABASE {template} TEMPLATE postgres")
                self._sql(template, NO_GATEWAY + self._setup(kind))
            self.templates.add(kind)
        for statement in (
            "DROP DATABASE IF EXISTS measured WITH (FORCE)",
            f"CREATE DATABASE measured TEMPLATE {template}",
            "CHECKPOINT",
        ):
            self._sql("template1", statement)
        return self._url("measured")

    def _setup(self, kind):
        if kind == "pg-sse":
            done = subprocess.run([self.python, "-c", PG_SSE], check=True, capture_output=True, text=True)
            return NUMBERED + done.stdout
        return {"none": POLLED, "plain": PLAIN, "outbox": OUTBOX}[kind]

    def _url(self, database):
        return self.postgres["url"].rsplit("/", 1)[0] + "/" + database

    def _sql(self, database, sql):
        command = [self.postgres["psql"], "-qX", "-v", "ON_ERROR_STOP=1", self._url(database), "-c", sql]
        environment = {**os.environ, "PGOPTIONS": "-c client_min_messages=warning"}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
