-- The trigger of in_process.py: each new row as a notification of Postgres, up to 8,000 bytes.
CREATE FUNCTION notify_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('new_notification', row_to_json(NEW)::text);
  RETURN NULL;
END $$;
CREATE TRIGGER notify_row AFTER INSERT ON notifications FOR EACH ROW EXECUTE FUNCTION notify_row();
