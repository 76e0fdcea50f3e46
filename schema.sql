-- What notify-gateway needs in the application's database. PostgreSQL 13 and later.
--
--     psql "$DATABASE_URL" -f schema.sql          as the owner of the table, on the primary
--
-- Run it as often as you like, at noon, from psql, from a migration, from any client. The file is
-- ONE statement: whatever happens, either all of it is there or nothing of it is.
--
-- What it does to the table        on the first run                       on every later run
--   two columns                    catalogue only, no row is rewritten    nothing
--   two triggers                   catalogue only                         nothing
--   two indexes                    built at once on a table up to 32 MB,  nothing
--                                  else you get the commands to paste
--   rows                           none is touched                        none, unless they come from
--                                                                         another cluster (section 6)
-- The application's own columns, constraints, triggers and indexes are never touched.
--
-- Locks: the first run needs ACCESS EXCLUSIVE on the table for milliseconds (up to a second where
-- it builds indexes). It never queues for it longer than 0.4 s at a time, so a long transaction
-- makes this file fail, with the culprit's pid, and not the application stall behind it. A later
-- run that finds all in place takes no lock on the table that any reader or writer would notice.
--
-- Undo:
--     DROP SCHEMA notify_gateway CASCADE;      -- takes the triggers and the default of seq along
--     ALTER TABLE public.notifications DROP COLUMN xact_id, DROP COLUMN seq;   -- and the indexes
--     DROP OWNED BY notify_gateway;  DROP ROLE notify_gateway;

DO $schema$
DECLARE
  -- Qualified and free of operators: this part runs before search_path is pinned.
  search_path_before  pg_catalog.text := pg_catalog.current_setting('search_path');
  lock_timeout_before pg_catalog.text := pg_catalog.current_setting('lock_timeout');
  row_security_before pg_catalog.text := pg_catalog.current_setting('row_security');

  small_table CONSTANT bigint := 33554432;  -- bytes, 32 MB: both indexes build in well under a second

  tbl       pg_catalog.regclass;
  family    pg_catalog.oid[];   -- the table, and its partitions where it is partitioned
  kind      pg_catalog."char";
  is_small  boolean;
  lock_mode pg_catalog.text;    -- the strongest lock this run needs; null: none
  names     pg_catalog.text;
  remedy    pg_catalog.text;
  is_valid  boolean;
  item      pg_catalog.record;
BEGIN
  -- ── 1. Settings of this run ──────────────────────────────────────────────────────────────────
  -- Local to the transaction, and put back at the end for those who run this inside a longer one.

  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  PERFORM set_config('lock_timeout', '4s', true);
  PERFORM set_config('row_security', 'off', true);  -- section 6 must see all rows, or fail

  IF current_setting('server_version_num')::integer < 130000 THEN
    RAISE EXCEPTION 'notify-gateway needs PostgreSQL 13 or later, this is %',
      current_setting('server_version');
  END IF;

  BEGIN  -- two runs at once would trip over each other's CREATEs: the second one waits here
    PERFORM pg_advisory_xact_lock(hashtextextended('notify_gateway schema', 0));
  EXCEPTION WHEN lock_not_available THEN
    RAISE EXCEPTION 'another run of this file is under way in this database'
      USING ERRCODE = 'lock_not_available', HINT = 'Run it again when that one is through.';
  END;

  -- ── 2. The gateway's own schema ──────────────────────────────────────────────────────────────

  IF to_regnamespace('notify_gateway') IS NULL THEN
    CREATE SCHEMA notify_gateway;
    COMMENT ON SCHEMA notify_gateway IS 'notify-gateway: made by its schema.sql';
  END IF;

  -- A row's place inside its transaction. Between transactions the numbers mean nothing, so every
  -- session may keep a handful of its own (CACHE): no contention, and within a session they rise.
  -- PUBLIC may use it since a column default runs as whoever writes; without USAGE on the schema
  -- that allows nothing but drawing numbers.
  IF to_regclass('notify_gateway.seq') IS NULL THEN
    CREATE SEQUENCE notify_gateway.seq CACHE 64;
    GRANT USAGE ON SEQUENCE notify_gateway.seq TO PUBLIC;
  END IF;

  -- One row, updated about once a second by every gateway. The low fillfactor makes Postgres prune
  -- the dead versions as it goes, so the table stays one page and every update a HOT one; vacuum
  -- looks in every quarter of an hour, not every minute, and never truncates (which would lock).
  IF to_regclass('notify_gateway.state') IS NULL THEN
    CREATE TABLE notify_gateway.state (
      singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
      beat      bigint  NOT NULL DEFAULT 0,      -- counts the updates
      beat_at   timestamptz,                     -- when the last one was made
      flushed   xid8,                            -- transaction numbers below are on disk for good
      epoch     integer NOT NULL DEFAULT 0,      -- the current one; 0: no gateway has run here yet
      mode      text    NOT NULL DEFAULT 'row'   -- what notifications carry
    ) WITH (
      fillfactor = 10, vacuum_truncate = false,
      autovacuum_vacuum_threshold  = 1000,   autovacuum_vacuum_scale_factor  = 0,
      autovacuum_analyze_threshold = 100000, autovacuum_analyze_scale_factor = 0
    );
    INSERT INTO notify_gateway.state DEFAULT VALUES;
    COMMENT ON TABLE notify_gateway.state IS 'one row: the heartbeat of the gateways';
  END IF;

  -- A stretch of time in which transaction numbers only went up. A failover, a restore to a point
  -- in time or pg_upgrade starts another; a gateway that finds itself in a new one adds the row.
  IF to_regclass('notify_gateway.epoch') IS NULL THEN
    CREATE TABLE notify_gateway.epoch (
      epoch             integer PRIMARY KEY CHECK (epoch > 0),
      system_identifier bigint NOT NULL,         -- of the cluster, pg_control_system()
      timeline          text   NOT NULL,         -- of its WAL, eight hexadecimal digits
      first_xact        xid8,                    -- older cursors are cut back to this number; null:
                                                 -- they cannot be read any more (dump and restore)
      started_at        timestamptz NOT NULL DEFAULT now()
    );
    COMMENT ON TABLE notify_gateway.epoch IS 'where transaction numbers went back, and to what';
  END IF;

  -- Log out everywhere: INSERT INTO notify_gateway.revocation (user_id) VALUES ('…') ends the
  -- user's streams; 'infinity' locks the user out. Who may is up to you:
  --     GRANT USAGE ON SCHEMA notify_gateway TO app;
  --     GRANT INSERT ON notify_gateway.revocation TO app;
  -- A row may go when the last token issued before it has expired.
  IF to_regclass('notify_gateway.revocation') IS NULL THEN
    CREATE TABLE notify_gateway.revocation (
      user_id    uuid        NOT NULL,
      before     timestamptz NOT NULL DEFAULT now(),  -- tokens issued earlier are refused
      created_at timestamptz NOT NULL DEFAULT now(),
      xact_id    xid8        NOT NULL DEFAULT pg_current_xact_id(),  -- how gateways find new rows
      id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY
    );
    CREATE INDEX revocation_user ON notify_gateway.revocation (user_id, before);
    CREATE INDEX revocation_xact ON notify_gateway.revocation (xact_id);
    COMMENT ON TABLE notify_gateway.revocation IS 'tokens of user_id issued before … are refused';
  END IF;

  -- ── 3. The table ─────────────────────────────────────────────────────────────────────────────
  -- Made where there is none. One that exists is looked at, and left as it is.

  IF to_regclass('public.notifications') IS NULL THEN
    CREATE TABLE public.notifications (
      id                 uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
      user_id            uuid        NOT NULL,
      type               text        NOT NULL DEFAULT 'info'
                                     CHECK (type IN ('info', 'success', 'warning', 'error')),
      title              text        NOT NULL,
      message            text        NOT NULL,
      status             text        NOT NULL DEFAULT 'unread',
      metadata           jsonb       NOT NULL DEFAULT '{}',
      related_session_id uuid,
      created_at         timestamptz NOT NULL DEFAULT now()
    );
  END IF;

  tbl := 'public.notifications'::regclass;
  SELECT c.relkind, ARRAY(SELECT tbl UNION SELECT p.relid FROM pg_partition_tree(tbl) AS p)
    INTO kind, family FROM pg_class AS c WHERE c.oid = tbl;
  SELECT sum(pg_relation_size(f)) <= small_table INTO is_small FROM unnest(family) AS f;

  IF kind NOT IN ('r', 'p') THEN
    RAISE EXCEPTION '% is not a table', tbl;
  END IF;

  -- Enums, varchar, json, timestamps without time zone (read as UTC) and domains will do.
  SELECT string_agg(col.name, ', '),
         string_agg(format(CASE
             WHEN a.attnum IS NULL   THEN 'ALTER TABLE %1$s ADD COLUMN %2$I %3$s;'
             WHEN col.ours           THEN 'ALTER TABLE %1$s RENAME COLUMN %2$I TO %2$s_of_the_app;'
             ELSE 'ALTER TABLE %1$s ALTER COLUMN %2$I TYPE %4$s USING %2$I::%4$s;'
           END, tbl, col.name, col.definition, (col.types::regtype[])[1]), E'\n')
    INTO names, remedy
    FROM (VALUES
      ('id',                 false, 'uuid DEFAULT gen_random_uuid() PRIMARY KEY', '{uuid}'),
      ('user_id',            false, 'uuid',                               '{uuid}'),
      ('type',               false, 'text NOT NULL DEFAULT ''info''',     NULL),
      ('title',              false, 'text NOT NULL DEFAULT ''''',         NULL),
      ('message',            false, 'text NOT NULL DEFAULT ''''',         NULL),
      ('status',             false, 'text NOT NULL DEFAULT ''unread''',   NULL),
      ('metadata',           false, 'jsonb NOT NULL DEFAULT ''{}''',      NULL),
      ('related_session_id', false, 'uuid',                               NULL),
      ('created_at',         false, 'timestamptz NOT NULL DEFAULT now()', '{timestamptz,timestamp}'),
      ('xact_id',            true,  NULL,                                 '{xid8}'),
      ('seq',                true,  NULL,                                 '{bigint}')
    ) AS col (name, ours, definition, types)
    LEFT JOIN pg_attribute AS a
      ON a.attrelid = tbl AND a.attname = col.name AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_type AS t ON t.oid = a.atttypid
   WHERE (a.attnum IS NULL AND NOT col.ours)
      OR coalesce(nullif(t.typbasetype, 0), t.oid) <> ALL (col.types::regtype[]::oid[]);
  IF names IS NOT NULL THEN
    RAISE EXCEPTION 'table % has columns missing or of another type: %', tbl, names
      USING ERRCODE = 'datatype_mismatch',
            HINT = E'Nothing has been changed. Mend the table, for instance by\n' || remedy;
  END IF;

  -- ── 4. The lock, the columns, the functions, the triggers ────────────────────────────────────
  -- The strongest lock that what is missing calls for, taken once: nothing below waits for another.

  SELECT CASE
      WHEN (SELECT count(*) FROM pg_attribute AS a
             WHERE a.attrelid = tbl AND a.attname IN ('xact_id', 'seq')
               AND NOT a.attisdropped AND a.atthasdef) < 2
      THEN 'ACCESS EXCLUSIVE'
      WHEN (SELECT count(*) FROM pg_trigger AS t
             WHERE t.tgrelid = tbl AND t.tgfoid IN (to_regprocedure('notify_gateway.stamp()'),
                                                    to_regprocedure('notify_gateway.notify()'))) < 2
        OR EXISTS (SELECT FROM pg_trigger AS t
                    WHERE t.tgrelid = ANY (family) AND t.tgenabled IN ('O', 'R')
                      AND t.tgfoid IN (to_regprocedure('notify_gateway.stamp()'),
                                       to_regprocedure('notify_gateway.notify()')))
      THEN 'SHARE ROW EXCLUSIVE'
      WHEN is_small
       AND (SELECT count(*) FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
             WHERE i.indrelid = tbl
               AND c.relname IN ('notify_gateway_user_xact_seq', 'notify_gateway_xact')) < 2
      THEN 'SHARE'
    END INTO lock_mode;

  -- While a lock is waited for, everyone who comes later waits behind it. Hence short attempts
  -- with pauses between them: the application never stands for longer than one attempt.
  PERFORM set_config('lock_timeout', '400ms', true);
  FOR attempt IN 1 .. 5 LOOP
    EXIT WHEN lock_mode IS NULL;
    BEGIN
      EXECUTE format('LOCK TABLE %s IN %s MODE', tbl, lock_mode);
      EXIT;
    EXCEPTION WHEN lock_not_available THEN
      IF attempt = 5 THEN
        SELECT string_agg(DISTINCT l.pid::text, ', ') INTO names FROM pg_locks AS l
         WHERE l.relation = ANY (family) AND l.granted AND l.pid <> pg_backend_pid()
           AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database());
        RAISE EXCEPTION 'table % is in use: no % lock within % attempts of 0.4 s',
          tbl, lock_mode, attempt
          USING ERRCODE = 'lock_not_available',
                DETAIL = 'Sessions that hold locks on it: ' || coalesce(names, 'none any more'),
                HINT = 'Nothing has been changed. See pg_stat_activity for these pids, '
                       'wait for them or end them, and run this file again.';
      END IF;
      PERFORM pg_sleep(0.6);
    END;
  END LOOP;
  PERFORM set_config('lock_timeout', '4s', true);

  -- xact_id: the transaction that wrote the row. seq: its place therein, null in rows that were
  -- there before. pg_current_xact_id() is STABLE, so old rows get one value, kept in the catalogue,
  -- and none is rewritten; nextval() is VOLATILE and would rewrite them all if it came with the
  -- column, so it comes afterwards. The defaults number the rows even where triggers are off.
  IF lock_mode = 'ACCESS EXCLUSIVE' THEN
    ALTER TABLE public.notifications
      ADD COLUMN IF NOT EXISTS xact_id xid8 DEFAULT pg_current_xact_id(),
      ADD COLUMN IF NOT EXISTS seq bigint;
    ALTER TABLE public.notifications
      ALTER COLUMN xact_id SET DEFAULT pg_current_xact_id(),
      ALTER COLUMN seq     SET DEFAULT nextval('notify_gateway.seq');
    COMMENT ON COLUMN public.notifications.xact_id IS 'notify-gateway: the writing transaction';
    COMMENT ON COLUMN public.notifications.seq     IS 'notify-gateway: the place therein';
  END IF;

  -- The functions are replaced at every run: that is how an upgrade reaches them. It locks nothing.

  -- A row as one line of JSON, the same bytes for the same row whoever asks, and it must not fail
  -- for any row the table can hold (one that did would stop every sweep that meets it). Therefore:
  --   every name is qualified in place of a SET search_path, so that the planner can inline it
  --     (in the trigger a quarter of the time of a row_to_json() with SET clauses);
  --   the time takes the way over seconds since 1970, which ignores TimeZone and DateStyle and
  --     reads a timestamp without time zone as UTC; what RFC 3339 cannot say (infinity, BC) becomes
  --     the nearest it can; to_json() escapes all else;
  --   metadata is passed on as it is (a json column may hold \u0000, which jsonb would refuse),
  --     less the line ends that json allows between its tokens.
  CREATE OR REPLACE FUNCTION notify_gateway.payload(n public.notifications) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
  AS $function$
    SELECT pg_catalog.concat(
      '{"xact_id":',              coalesce(pg_catalog.to_json(n.xact_id), 'null'),
      ',"seq":',                  coalesce(pg_catalog.to_json(n.seq), 'null'),
      ',"user_id":',              coalesce(pg_catalog.to_json(n.user_id), 'null'),
      ',"data":{"id":',           coalesce(pg_catalog.to_json(n.id), 'null'),
      ',"type":',                 coalesce(pg_catalog.to_json(n.type), 'null'),
      ',"title":',                coalesce(pg_catalog.to_json(n.title), 'null'),
      ',"message":',              coalesce(pg_catalog.to_json(n.message), 'null'),
      ',"status":',               coalesce(pg_catalog.to_json(n.status), 'null'),
      ',"metadata":',             pg_catalog.replace(pg_catalog.replace(
                                    coalesce(pg_catalog.to_json(n.metadata), 'null')::pg_catalog.text,
                                    E'\n', ''), E'\r', ''),
      ',"created_at":',           coalesce(pg_catalog.to_json(pg_catalog.to_char(
                                    CASE WHEN n.created_at IS NOT NULL THEN
                                      greatest(timestamp '0001-01-01', least(
                                        timestamp '9999-12-31 23:59:59.999999',
                                        pg_catalog.timezone('UTC', pg_catalog.to_timestamp(
                                          pg_catalog.date_part('epoch', n.created_at)))))
                                    END, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')), 'null'),
      ',"related_session_id":',   coalesce(pg_catalog.to_json(n.related_session_id), 'null'),
      '}}')
  $function$;

  -- Numbers the row. Whatever the writer put there is overwritten: these two cannot be forged. (The
  -- default of seq has drawn a number before, so a row takes two: nothing depends on it.)
  CREATE OR REPLACE FUNCTION notify_gateway.stamp() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $function$
    BEGIN
      NEW.xact_id := pg_current_xact_id();
      NEW.seq     := nextval('notify_gateway.seq');
      RETURN NEW;
    END
  $function$;

  -- Tells the gateways: the row itself; or, where NOTIFY could not carry it (8000 bytes) and where
  -- making it fails, whose row it is: "read the table for this user". Many such rows of a user in
  -- one transaction are one notification. In 'ring' mode it is '', a bare ring: "read the table".
  -- The INSERT never fails of it. OTHERS leaves out a cancelled query, so statement_timeout and
  -- Ctrl-C still work. pg_notify() stays outside the inner block: inside, every row of a bulk insert
  -- would pin the 8 kB of its subtransaction until the commit.
  CREATE OR REPLACE FUNCTION notify_gateway.notify() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $function$
    DECLARE
      payload text := '';
    BEGIN
      IF NEW.user_id IS NULL THEN
        RETURN NULL;  -- nobody's
      END IF;
      IF TG_ARGV[1] = 'row' THEN
        BEGIN
          payload := notify_gateway.payload(NEW);
        EXCEPTION WHEN OTHERS THEN
          payload := NULL;
        END;
        -- When it was made, for the gateway's delivery_seconds. Not in the other form, of which many
        -- in one transaction are to be one.
        payload := '{"at":' || extract(epoch FROM clock_timestamp())::text || ',' || substr(payload, 2);
        IF payload IS NULL OR octet_length(payload) >= 8000 THEN
          payload := concat('{"xact_id":"', NEW.xact_id, '","user_id":"', NEW.user_id, '"}');
        END IF;
      END IF;
      PERFORM pg_notify(TG_ARGV[0], payload);
      RETURN NULL;
    END
  $function$;

  -- Triggers fire without EXECUTE for the writer. Without it nobody hangs these onto other tables.
  REVOKE EXECUTE ON FUNCTION notify_gateway.payload(public.notifications),
                             notify_gateway.stamp(), notify_gateway.notify() FROM PUBLIC;

  -- Found by function, not by name: rename them, or switch one to other arguments, and a later run
  -- leaves them so. BEFORE triggers fire in the order of their names: zz_ comes after those of the
  -- application, which may build the row anew and lose our two columns.
  IF NOT EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = tbl
                    AND t.tgfoid = 'notify_gateway.stamp()'::regprocedure) THEN
    CREATE TRIGGER zz_notify_gateway_stamp
      BEFORE INSERT ON public.notifications
      FOR EACH ROW EXECUTE FUNCTION notify_gateway.stamp();
  END IF;

  -- Any role that may CONNECT may LISTEN and would read the rows. 'ring' for 'row' keeps them in
  -- the table, at about half a millisecond's delay: in one transaction DROP TRIGGER, this CREATE
  -- TRIGGER with 'ring', ALTER TABLE … ENABLE ALWAYS TRIGGER notify_gateway_notify.
  IF NOT EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = tbl
                    AND t.tgfoid = 'notify_gateway.notify()'::regprocedure) THEN
    CREATE TRIGGER notify_gateway_notify
      AFTER INSERT ON public.notifications
      FOR EACH ROW EXECUTE FUNCTION notify_gateway.notify(
        'notifications',  -- channel
        'row'
      );
  END IF;

  -- ALWAYS: for rows that logical replication or a restore brings in, too. (ENABLE TRIGGER ALL
  -- after a bulk load takes it away; this brings it back.) What is disabled stays so: the gateway
  -- then finds the rows by looking, once a second.
  FOR item IN
    SELECT t.tgrelid::regclass AS rel, t.tgname, t.tgenabled FROM pg_trigger AS t
     WHERE t.tgrelid = ANY (family)
       AND t.tgfoid IN ('notify_gateway.stamp()'::regprocedure, 'notify_gateway.notify()'::regprocedure)
       AND t.tgenabled <> 'A'
     ORDER BY t.tgrelid = tbl DESC
  LOOP
    remedy := format('ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER %I', item.rel, item.tgname);
    IF item.tgenabled = 'D' THEN
      RAISE WARNING 'trigger % on % is disabled', item.tgname, item.rel
        USING HINT = 'If that is not meant: ' || remedy || ';';
      CONTINUE;
    END IF;
    BEGIN
      EXECUTE remedy;
    EXCEPTION WHEN insufficient_privilege THEN  -- before 15, those of partitions are "system" ones
      RAISE WARNING 'a superuser must run: %;', remedy;
    END;
  END LOOP;

  -- ── 5. The indexes ───────────────────────────────────────────────────────────────────────────
  -- The first finds what one user has not seen yet, the second what nobody has. Rows come in the
  -- order of xact_id, so both grow at their ends. CONCURRENTLY cannot run in here: on a big table
  -- it is yours to paste, and until then gateways scan the table.

  remedy := NULL;
  FOR item IN
    SELECT * FROM (VALUES ('notify_gateway_user_xact_seq', 'user_id, xact_id, seq'),
                          ('notify_gateway_xact',          'xact_id')) AS wanted (name, columns)
  LOOP
    SELECT i.indisvalid INTO is_valid FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
     WHERE i.indrelid = tbl AND c.relname = item.name;
    IF is_valid THEN
      CONTINUE;
    ELSIF is_valid IS NULL AND is_small THEN
      EXECUTE format('CREATE INDEX %I ON %s (%s)', item.name, tbl, item.columns);
      CONTINUE;
    END IF;
    -- What a big table needs, or one on which CONCURRENTLY failed half way.
    remedy := concat_ws(E'\n', remedy,
      CASE WHEN NOT is_valid THEN
        format('DROP INDEX%s %s.%I;  -- invalid: its building failed, or is not through yet',
               CASE kind WHEN 'r' THEN ' CONCURRENTLY' END,
               (SELECT c.relnamespace::regnamespace FROM pg_class AS c WHERE c.oid = tbl), item.name)
      END,
      -- Partitions one by one; the index on the whole then finds theirs, and is made in no time.
      (SELECT string_agg(format('CREATE INDEX CONCURRENTLY ON %s (%s);', p.relid, item.columns), E'\n')
         FROM pg_partition_tree(tbl) AS p WHERE kind = 'p' AND p.isleaf),
      format('CREATE INDEX%s IF NOT EXISTS %I ON %s (%s);',
             CASE kind WHEN 'r' THEN ' CONCURRENTLY' END, item.name, tbl, item.columns));
  END LOOP;
  IF remedy IS NOT NULL THEN
    RAISE WARNING 'table % lacks an index that the gateway needs', tbl
      USING HINT = E'Run these outside a transaction, then this file again:\n' || remedy;
  END IF;

  -- ── 6. Rows from the future ──────────────────────────────────────────────────────────────────
  -- After a dump and restore into another cluster, rows carry transaction numbers this one has not
  -- reached: it would count them as new for ever. They become rows of this transaction. (Rows at or
  -- beyond the snapshot's end that we can see and did not write ourselves are just these.) To know
  -- that there are none costs one look at the end of the index, and no write.

  IF remedy IS NULL AND
     (SELECT n.xact_id FROM public.notifications AS n
       WHERE n.xact_id IS NOT NULL ORDER BY n.xact_id DESC LIMIT 1)
     >= pg_snapshot_xmax(pg_current_snapshot())
  THEN
    UPDATE public.notifications AS n SET xact_id = pg_current_xact_id()
     WHERE n.xact_id >= pg_snapshot_xmax(pg_current_snapshot())
       AND n.xact_id IS DISTINCT FROM pg_current_xact_id_if_assigned();
  END IF;

  UPDATE notify_gateway.revocation AS r SET xact_id = pg_current_xact_id()
   WHERE r.xact_id >= pg_snapshot_xmax(pg_current_snapshot())
     AND r.xact_id IS DISTINCT FROM pg_current_xact_id_if_assigned();

  -- ── 7. The gateway's role ────────────────────────────────────────────────────────────────────
  -- It cannot log in. Your login role becomes a member: GRANT notify_gateway TO the_login_role;

  BEGIN
    IF to_regrole('notify_gateway') IS NULL THEN
      CREATE ROLE notify_gateway NOLOGIN;
    END IF;
  EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;  -- roles are the cluster's: made just now
    WHEN insufficient_privilege THEN
      RAISE NOTICE 'role notify_gateway is missing, and % may not create roles', current_user
        USING HINT = 'Let someone who may run: CREATE ROLE notify_gateway NOLOGIN;  '
                     'and run this file again: it then grants what the role needs.';
  END;

  -- What it may do, and no more. Only what is missing is granted; what PUBLIC has, and we are not
  -- the ones to grant, will do.
  FOR item IN
    SELECT format('GRANT %s ON %s TO notify_gateway', g.privilege, g.object) AS command
      FROM (
        SELECT 'CONNECT', format('DATABASE %I', d.datname), d.datacl, d.datdba, 'd'
          FROM pg_database AS d WHERE d.datname = current_database()
        UNION ALL
        SELECT 'USAGE', format('SCHEMA %I', s.nspname), s.nspacl, s.nspowner, 'n'
          FROM pg_namespace AS s
         WHERE s.oid IN ('notify_gateway'::regnamespace,
                         (SELECT c.relnamespace FROM pg_class AS c WHERE c.oid = tbl))
        UNION ALL
        SELECT 'EXECUTE', format('FUNCTION %s', p.oid::regprocedure), p.proacl, p.proowner, 'f'
          FROM pg_proc AS p WHERE p.oid = 'notify_gateway.payload(public.notifications)'::regprocedure
        UNION ALL
        SELECT t.privilege, format('TABLE %s', c.oid::regclass), c.relacl, c.relowner, 'r'
          FROM (VALUES ('SELECT', 'public.notifications'::regclass),
                       ('SELECT', 'notify_gateway.state'),      ('UPDATE', 'notify_gateway.state'),
                       ('SELECT', 'notify_gateway.epoch'),      ('INSERT', 'notify_gateway.epoch'),
                       ('SELECT', 'notify_gateway.revocation')) AS t (privilege, relation)
          JOIN pg_class AS c ON c.oid = t.relation
      ) AS g (privilege, object, acl, owner, type)
     WHERE NOT EXISTS (
             SELECT FROM aclexplode(coalesce(g.acl, acldefault(g.type::"char", g.owner))) AS held
              WHERE held.privilege_type = g.privilege
                AND (held.grantee = to_regrole('notify_gateway')
                     OR held.grantee = 0 AND NOT pg_has_role(g.owner, 'USAGE')))
       AND to_regrole('notify_gateway') IS NOT NULL
  LOOP
    BEGIN
      EXECUTE item.command;
    EXCEPTION WHEN insufficient_privilege THEN
      RAISE NOTICE '% may not grant this, its owner must: %;', current_user, item.command;
    END;
  END LOOP;

  PERFORM set_config('row_security', row_security_before, true);
  PERFORM set_config('lock_timeout', lock_timeout_before, true);
  PERFORM set_config('search_path', search_path_before, true);
END
$schema$;
