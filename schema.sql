-- What notify-gateway needs in the application's database. PostgreSQL 13 and later.
--
--     psql -v ON_ERROR_STOP=1 "$DATABASE_URL" -f schema.sql      as the table's owner, on the primary
--
-- Run it as often as you like, at noon, from psql, from a migration, from any client. The file is
-- ONE statement: whatever happens, either all of it is there or nothing of it is.
--
-- It makes the schema notify_gateway and, in the application's table, one trigger: no column, no
-- index, no row is touched. What is to be told is written by that trigger, in the same transaction,
-- into the event log notify_gateway.event. The application's table stays its own: it may be altered,
-- renamed and dropped as before, and none of its writes ever fails because of us.
--
-- Locks: the trigger needs SHARE ROW EXCLUSIVE on the table for milliseconds. It never queues for it
-- longer than 0.4 s at a time, so a long transaction makes this file fail, with the culprit's pid,
-- and not the application stall behind it. A later run that finds all in place takes no lock on the
-- table that a reader or a writer would notice.
--
-- Undo:
--     SELECT notify_gateway.uninstall();                -- or unwatch('notifications'): this table alone
--     DROP OWNED BY notify_gateway, notify_gateway_owner;  DROP ROLE notify_gateway, notify_gateway_owner;

DO $schema$
DECLARE
  -- Qualified and free of operators: this part runs before search_path is pinned.
  search_path_before  pg_catalog.text := pg_catalog.current_setting('search_path');
  lock_timeout_before pg_catalog.text := pg_catalog.current_setting('lock_timeout');
  role_before         pg_catalog.text := pg_catalog.current_setting('role');

  makes_table CONSTANT pg_catalog.bool := true;  -- false by `notify-gateway schema --no-table`
  member pg_catalog.text;       -- what one has to be of a role to SET ROLE to it
  me     pg_catalog.name := current_user;
  owner  pg_catalog.name;       -- of schema, tables and functions
  tbl    pg_catalog.regclass;
  names  pg_catalog.text;
  item   pg_catalog.record;
BEGIN
  -- ── 1. Settings of this run ──────────────────────────────────────────────────────────────────
  -- Local to the transaction, and put back at the end for those who run this inside a longer one.

  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  PERFORM set_config('lock_timeout', '4s', true);

  IF current_setting('server_version_num')::integer < 130000 THEN
    RAISE EXCEPTION 'notify-gateway needs PostgreSQL 13 or later, this is %',
      current_setting('server_version');
  END IF;

  member := CASE WHEN current_setting('server_version_num')::integer < 160000
                 THEN 'MEMBER' ELSE 'SET' END;

  BEGIN  -- two runs at once would trip over each other's CREATEs: the second one waits here
    PERFORM pg_advisory_xact_lock(hashtextextended('notify_gateway schema', 0));
  EXCEPTION WHEN lock_not_available THEN
    RAISE EXCEPTION 'another run of this file is under way in this database'
      USING ERRCODE = 'lock_not_available', HINT = 'Run it again when that one is through.';
  END;

  IF to_regprocedure('notify_gateway.stamp()') IS NOT NULL THEN
    RAISE EXCEPTION 'the schema notify_gateway is of a version that added columns to your table'
      USING HINT = E'Undo that one first, then run this file again:\n'
        'DROP SCHEMA notify_gateway CASCADE;\n'
        'ALTER TABLE notifications DROP COLUMN xact_id, DROP COLUMN seq;';
  END IF;
  IF to_regclass('notify_gateway.event') IS NOT NULL
     AND NOT EXISTS (SELECT FROM pg_attribute AS a
                      WHERE a.attrelid = to_regclass('notify_gateway.event') AND a.attname = 'oldest') THEN
    RAISE EXCEPTION 'the event log is of a version that was never released'
      USING HINT = 'Take it down, then run this file and watch() again: DROP SCHEMA notify_gateway CASCADE;';
  END IF;

  -- ── 2. Who owns it ───────────────────────────────────────────────────────────────────────────
  -- Whoever writes, the trigger's function runs with its owner's rights. So the owner is a role
  -- that owns this schema and has no other rights. If that role cannot be created, the role that runs
  -- this file owns the schema.

  SELECT nspowner::regrole::name INTO owner FROM pg_namespace WHERE nspname = 'notify_gateway';
  IF owner IS NULL THEN
    owner := me;
    BEGIN
      IF to_regrole('notify_gateway_owner') IS NULL THEN
        CREATE ROLE notify_gateway_owner NOLOGIN;
      END IF;
      -- Since 16 who has made a role may not use it without this.
      IF NOT pg_has_role(me, 'notify_gateway_owner', member) THEN
        EXECUTE format('GRANT notify_gateway_owner TO %I', me);
      END IF;
      CREATE SCHEMA notify_gateway AUTHORIZATION notify_gateway_owner;
      owner := 'notify_gateway_owner';
    EXCEPTION
      WHEN insufficient_privilege OR duplicate_object OR unique_violation THEN
        RAISE NOTICE '% owns the schema notify_gateway, since % may not make the role notify_gateway_owner',
          me, me
          USING HINT = 'The trigger then runs with your rights. A superuser can do better: '
                       'CREATE ROLE notify_gateway_owner NOLOGIN;  '
                       'GRANT notify_gateway_owner TO you;  before the first run of this file.';
        IF NOT has_database_privilege(current_database(), 'CREATE') THEN
          RAISE EXCEPTION '% may not create a schema in this database', me
            USING ERRCODE = 'insufficient_privilege',
                  HINT = format('Let someone who may run: GRANT CREATE ON DATABASE %I TO %I;  '
                                'and run this file again.', current_database(), me);
        END IF;
        CREATE SCHEMA notify_gateway;
    END;
    COMMENT ON SCHEMA notify_gateway IS 'notify-gateway: made by its schema.sql';
  END IF;
  IF NOT pg_has_role(me, owner, member) THEN
    RAISE EXCEPTION 'the schema notify_gateway belongs to %, and % is not a member of it', owner, me
      USING ERRCODE = 'insufficient_privilege',
            HINT = format('Run this file as a superuser, or: GRANT %I TO %I;', owner, me);
  END IF;
  PERFORM set_config('role', owner, true);

  -- ── 3. The tables ────────────────────────────────────────────────────────────────────────────

  -- An event's place inside its transaction, and among the events of one row: who changes a row has
  -- it locked, so that the numbers rise with its changes, whatever the transactions' numbers are.
  -- (Hence no CACHE: sessions would have numbers of their own.)
  IF to_regclass('notify_gateway.seq') IS NULL THEN
    CREATE SEQUENCE notify_gateway.seq;
  END IF;

  -- The event log. Only ever written by the triggers; read, and pruned, by the gateways. Every text
  -- is "C": compared as bytes, whatever the database's collation is.
  IF to_regclass('notify_gateway.event') IS NULL THEN
    CREATE TABLE notify_gateway.event (
      xact_id xid8    NOT NULL DEFAULT pg_current_xact_id(),   -- the writing transaction
      seq     bigint  NOT NULL DEFAULT nextval('notify_gateway.seq'),  -- the place in it
      oldest  xid8    NOT NULL DEFAULT pg_snapshot_xmin(pg_current_snapshot()),  -- those below had ended
      watch   integer NOT NULL,                                -- notify_gateway.watch_entry
      user_id text COLLATE "C" NOT NULL,                       -- whose it is
      row_id  text COLLATE "C" NOT NULL,                       -- the row it speaks of
      event   text COLLATE "C" NOT NULL,                       -- notification, updated, deleted
      data    text COLLATE "C" NOT NULL                        -- the JSON object the client gets
    ) WITH (
      -- Old events go all the time: vacuum comes by the number of them, never truncates (which locks).
      vacuum_truncate = false, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
      autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000
    );
    -- What one user has not seen yet; what nobody has; what was said of one row; which rows are gone.
    CREATE INDEX event_user ON notify_gateway.event (user_id, xact_id, seq);
    CREATE INDEX event_xact ON notify_gateway.event (xact_id);
    CREATE INDEX event_row  ON notify_gateway.event (row_id, watch, xact_id, seq);
    CREATE INDEX event_gone ON notify_gateway.event (xact_id, seq) WHERE event = 'deleted';
    COMMENT ON TABLE notify_gateway.event IS 'what users are to be told';
  END IF;

  -- What is watched. The trigger's function is notify_gateway.watch_<id>().
  IF to_regclass('notify_gateway.watch_entry') IS NULL THEN
    CREATE TABLE notify_gateway.watch_entry (
      id          integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      schema_name text NOT NULL,
      table_name  text NOT NULL,
      user_id     text NOT NULL,
      row_id      text NOT NULL,
      event       text NOT NULL,
      data        json,
      condition   text,
      ring        text NOT NULL
    );
    COMMENT ON TABLE notify_gateway.watch_entry IS 'the arguments of notify_gateway.watch()';
  END IF;

  -- Rows that could not be made an event: appended by the triggers, no text of a row in it. Folded
  -- and removed by the gateways.
  IF to_regclass('notify_gateway.problem') IS NULL THEN
    CREATE TABLE notify_gateway.problem (
      watch    integer     NOT NULL,
      sqlstate text        NOT NULL,
      message  text,                            -- where Postgres' own holds no value of the row
      at       timestamptz NOT NULL DEFAULT now()
    );
    COMMENT ON TABLE notify_gateway.problem IS 'why writes to watched tables made no event';
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
      quiet_until timestamptz,                   -- until then the triggers do not notify
      pruned_below xid8,                         -- events of older transactions may be gone
      id        uuid    NOT NULL DEFAULT gen_random_uuid()  -- which database this is
    ) WITH (
      fillfactor = 10, vacuum_truncate = false,
      autovacuum_vacuum_threshold  = 1000,   autovacuum_vacuum_scale_factor  = 0,
      autovacuum_analyze_threshold = 100000, autovacuum_analyze_scale_factor = 0
    );
    INSERT INTO notify_gateway.state DEFAULT VALUES;
    COMMENT ON TABLE notify_gateway.state IS 'one row: the heartbeat of the gateways';
  END IF;

  -- Which transactions had ended by when: how old an event is. A hundred rows or so.
  IF to_regclass('notify_gateway.checkpoint') IS NULL THEN
    CREATE TABLE notify_gateway.checkpoint (
      at   timestamptz PRIMARY KEY DEFAULT clock_timestamp(),
      xact xid8 NOT NULL
    );
    COMMENT ON TABLE notify_gateway.checkpoint IS 'transactions before xact had ended at that time';
  END IF;

  -- A life of the server, in which transaction numbers only went up: it begins with each start, each
  -- recovery from a crash and each promotion. The first gateway that finds itself in a new one adds
  -- the row.
  IF to_regclass('notify_gateway.epoch') IS NULL THEN
    CREATE TABLE notify_gateway.epoch (
      place             integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      epoch             integer NOT NULL UNIQUE,  -- current_epoch()
      system_identifier bigint,                  -- of the cluster; null: this service does not say
      timeline          text,                    -- of its WAL, eight hexadecimal digits; likewise
      relation          oid     NOT NULL,        -- this table's; pg_upgrade keeps it, a copy has another
      first_xact        xid8,                    -- older cursors are cut back to this number; null:
                                                 -- they cannot be read any more (dump and restore)
      is_restart        boolean NOT NULL,        -- and what they say of single rows still holds
      started_at        timestamptz NOT NULL DEFAULT now()
    );
    COMMENT ON TABLE notify_gateway.epoch IS 'where transaction numbers may have gone back, and to what';
  END IF;

  -- Log out everywhere: INSERT INTO notify_gateway.revocation (user_id) VALUES ('…') ends the
  -- user's streams; 'infinity' locks the user out. Who may is up to you:
  --     GRANT USAGE ON SCHEMA notify_gateway TO app;
  --     GRANT INSERT ON notify_gateway.revocation TO app;
  -- A row may go when the last token issued before it has expired.
  IF to_regclass('notify_gateway.revocation') IS NULL THEN
    CREATE TABLE notify_gateway.revocation (
      user_id    text COLLATE "C" NOT NULL,
      before     timestamptz NOT NULL DEFAULT now(),  -- tokens issued earlier are refused
      created_at timestamptz NOT NULL DEFAULT now(),
      xact_id    xid8        NOT NULL DEFAULT pg_current_xact_id(),  -- how gateways find new rows
      id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY
    );
    CREATE INDEX revocation_user ON notify_gateway.revocation (user_id, before);
    CREATE INDEX revocation_xact ON notify_gateway.revocation (xact_id);
    COMMENT ON TABLE notify_gateway.revocation IS 'tokens of user_id issued before … are refused';
  END IF;

  -- ── 4. How a row becomes an event ────────────────────────────────────────────────────────────
  -- These functions run when a table is watched, and write the function of its trigger.

  -- The value, which is of the type that it had when its table was watched: of any other, no such
  -- function is found. It is inlined, so it costs nothing when it runs.
  CREATE OR REPLACE FUNCTION notify_gateway.as_watched(value anyelement, type anyelement)
    RETURNS anyelement LANGUAGE sql IMMUTABLE PARALLEL SAFE
  AS $function$ SELECT value $function$;

  -- Whether a value is, when this runs, of a type of Postgres' own, or of a domain over one.
  CREATE OR REPLACE FUNCTION notify_gateway.is_own_expression(value text) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
  AS $function$
    SELECT format(
      '(SELECT CASE WHEN t.typtype OPERATOR(pg_catalog.=) ''d'' THEN t.typbasetype ELSE t.oid END '
      'FROM pg_catalog.pg_type AS t WHERE t.oid OPERATOR(pg_catalog.=) pg_catalog.pg_typeof(%1$s)) '
      'OPERATOR(pg_catalog.<) 16384', value)
  $function$;

  -- A value of this type for json_build_object(): an expression whose JSON is the same bytes whatever
  -- the session's settings are. `value` is an expression of a row.
  --
  -- Functions, JSON's among them, call casts, and who owns a type makes its casts: they would run as
  -- the owner of this schema. So only types of Postgres' own are given to functions, and what is of
  -- another is asked for its text, by concat(). A column may get another type later: as_watched().
  CREATE OR REPLACE FUNCTION notify_gateway.json_expression(value text, type regtype) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
  AS $function$
    DECLARE
      base    oid := type;
      element oid;
      time    text;
    BEGIN
      WHILE (SELECT t.typbasetype FROM pg_type AS t WHERE t.oid = base) <> 0 LOOP
        SELECT t.typbasetype INTO base FROM pg_type AS t WHERE t.oid = base;
      END LOOP;
      SELECT nullif(t.typelem, 0) INTO element FROM pg_type AS t WHERE t.oid = base AND t.typcategory = 'A';
      IF base < 16384 AND base = type THEN
        value := format('notify_gateway.as_watched(%s, NULL::%s)', value, notify_gateway.type_name(base));
      ELSIF base IN ('timestamptz'::regtype, 'timestamp'::regtype) THEN
        -- The text of a time is the session's; JSON's is always the same.
        value := format('CASE WHEN %2$s THEN pg_catalog.to_json(%1$s) OPERATOR(pg_catalog.#>>) ''{}'' '
          'WHEN %1$s IS NOT NULL THEN pg_catalog.concat(%1$s) END::%3$s',
          value, notify_gateway.is_own_expression(value), notify_gateway.type_name(base));
      ELSIF base < 16384 THEN
        value := format('CASE WHEN %1$s IS NOT NULL THEN pg_catalog.concat(%1$s)::%2$s END',
                        value, notify_gateway.type_name(base));
      END IF;
      IF base IN ('timestamptz'::regtype, 'timestamp'::regtype) THEN
        -- RFC 3339 in UTC. What that cannot say (infinity, BC) becomes the nearest it can; a
        -- timestamp without time zone is read as UTC.
        time := CASE base WHEN 'timestamptz'::regtype
                  THEN format('pg_catalog.timezone(''UTC'', %s)', value) ELSE value END;
        RETURN format(
          'CASE WHEN %1$s IS NOT NULL THEN pg_catalog.to_char('
          'greatest(timestamp ''0001-01-01'', least(timestamp ''9999-12-31 23:59:59.999999'', %2$s)), '
          '''YYYY-MM-DD"T"HH24:MI:SS.US"Z"'') END', value, time);
      ELSIF base IN ('json'::regtype, 'json[]'::regtype) THEN
        -- As it is (it may hold \u0000, which jsonb refuses), less the line ends between its tokens.
        RETURN format('pg_catalog.replace(pg_catalog.replace(pg_catalog.to_json(%s)::pg_catalog.text, '
          'E''\n'', ''''), E''\r'', '''')::pg_catalog.json', value);
      ELSIF element >= 16384 THEN
        RETURN format('CASE WHEN %1$s IS NOT NULL THEN pg_catalog.concat(%1$s)::pg_catalog.text[] END',
                      value);
      ELSIF base >= 16384 THEN
        RETURN format('CASE WHEN %1$s IS NOT NULL THEN pg_catalog.concat(%1$s) END', value);
      END IF;
      RETURN value;
    END
  $function$;

  -- The same for a value of whatever type it has got: for what json_expression() does not take. Not
  -- all is told in the same bytes, and types are looked at for each row.
  CREATE OR REPLACE FUNCTION notify_gateway.any_json_expression(value text) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
  AS $function$
    SELECT format('CASE WHEN %2$s THEN pg_catalog.to_json(%1$s) '
      'WHEN %1$s IS NOT NULL THEN pg_catalog.to_json(pg_catalog.concat(%1$s)) END',
      value, notify_gateway.is_own_expression(value))
  $function$;

  -- The text of a JSON object of these names and values, which are expressions. (A function takes 100
  -- arguments at most, hence forty items at a time.) PostgreSQL 17 and later want quotes around json
  -- as the name of a parameter, and CREATE OR REPLACE cannot change the name.
  CREATE OR REPLACE FUNCTION notify_gateway.object_expression(names text[], "json" text[]) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
  AS $function$
    SELECT CASE count(*) WHEN 1 THEN min(part.text) || '::pg_catalog.text'
             ELSE format('pg_catalog.concat(''{'', %s, ''}'')', string_agg(
                    format('pg_catalog.left(pg_catalog.substr(%s::pg_catalog.text, 2), -1)', part.text),
                    ', '', '', ' ORDER BY part.number)) END
      FROM (SELECT (i - 1) / 40 AS number,
                   format('pg_catalog.json_build_object(%s)',
                          string_agg(format('%L, %s', names[i], "json"[i]), ', ' ORDER BY i)) AS text
              FROM generate_subscripts(names, 1) AS i GROUP BY (i - 1) / 40) AS part
  $function$;

  -- A type of Postgres' own by its full name.
  CREATE OR REPLACE FUNCTION notify_gateway.type_name(type oid) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
  AS $function$
    SELECT format('%I.%I', n.nspname, t.typname)
      FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace WHERE t.oid = type
  $function$;

  -- One text for one user: UUIDs in the form that Postgres writes, whatever form they came in.
  -- Qualified and without SET, so that it is inlined. Nobody, '' or null, is null.
  CREATE OR REPLACE FUNCTION notify_gateway.canonical(given text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
  AS $function$
    SELECT CASE
      WHEN given OPERATOR(pg_catalog.~*)
           '^([0-9a-f]{4}-?){7}[0-9a-f]{4}$|^\{([0-9a-f]{4}-?){7}[0-9a-f]{4}\}$'
      THEN given::pg_catalog.uuid::pg_catalog.text
      WHEN given OPERATOR(pg_catalog.<>) '' THEN given
    END
  $function$;

  -- A value of this type as the text by which users, or rows, are told apart. By concat(), which asks
  -- for a value's output: a cast to text of a type that the column got later would be its owner's code.
  CREATE OR REPLACE FUNCTION notify_gateway.key_expression(value text, type regtype) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
  AS $function$
    SELECT CASE
      WHEN type = 'bpchar'::regtype
        THEN format('notify_gateway.canonical(pg_catalog.rtrim(pg_catalog.concat(%s)))', value)
      WHEN type::oid >= 16384
        OR (SELECT t.typcategory IN ('S', 'E') FROM pg_type AS t WHERE t.oid = type)
        THEN format('notify_gateway.canonical(pg_catalog.concat(%s))', value)
      ELSE format('CASE WHEN %1$s IS NOT NULL THEN pg_catalog.concat(%1$s) END', value)
    END
  $function$;

  -- What an argument of watch() names: a column of the table, or an expression of its columns; with
  -- its type. An expression is tried at once.
  CREATE OR REPLACE FUNCTION notify_gateway.resolve(
    relation regclass, argument text, given text,
    OUT is_column boolean, OUT value text, OUT type regtype)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
  AS $function$
    BEGIN
      SELECT true, quote_ident(a.attname), a.atttypid INTO is_column, value, type
        FROM pg_attribute AS a
       WHERE a.attrelid = relation AND a.attname = given AND a.attnum > 0 AND NOT a.attisdropped;
      IF is_column THEN
        RETURN;
      END IF;
      is_column := false;
      value := format('(%s)', given);
      BEGIN
        EXECUTE format('SELECT pg_typeof(%s) FROM (SELECT (NULL::%s).*) AS r', value, relation)
           INTO type;
      EXCEPTION WHEN OTHERS THEN
        RAISE EXCEPTION 'watch(): % => %: %', argument, quote_nullable(given), SQLERRM
          USING ERRCODE = SQLSTATE,
                HINT = format('It is a column of %s, or an expression of its columns: %s.', relation,
                  (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum)
                     FROM pg_attribute AS a
                    WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped));
      END;
      IF type = 'unknown'::regtype THEN
        type := 'text';
        value := value || '::pg_catalog.text';
      END IF;
    END
  $function$;

  -- What rings: the first event of a transaction carries itself, where NOTIFY can (8000 bytes), the
  -- second rings bare, the rest are silent: one look at the log finds them all. What is never rung
  -- for counts as the first, so that nothing of its transaction comes before it. While gateways look
  -- by themselves (state.quiet_until), nothing rings; a moment too far ahead is of another clock.
  CREATE OR REPLACE FUNCTION notify_gateway.ring_source(
    ring text, who text, "json" text, channel text) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
  AS $function$
    SELECT CASE ring WHEN 'never' THEN
      $template$IF pg_catalog.octet_length(pg_catalog.current_setting('notify_gateway.rung', true))
       OPERATOR(pg_catalog.>) 0 IS NOT TRUE THEN
      rung := pg_catalog.set_config('notify_gateway.rung', '1', true);
    END IF;$template$ ELSE
      replace(replace($template$rung := pg_catalog.current_setting('notify_gateway.rung', true);
    IF rung OPERATOR(pg_catalog.=) '2' IS NOT TRUE THEN
      IF EXISTS (SELECT FROM notify_gateway.state AS q
                  WHERE q.quiet_until OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp()
                    AND (q.quiet_until OPERATOR(pg_catalog.<) (pg_catalog.clock_timestamp()
                           OPERATOR(pg_catalog.+) '2 s'::pg_catalog.interval)
                         OR q.quiet_until OPERATOR(pg_catalog.=) 'infinity'::pg_catalog.timestamptz))
      THEN
        rung := '2';
      ELSE
        payload := {PAYLOAD};
        IF rung OPERATOR(pg_catalog.=) '1' OR payload IS NULL
           OR pg_catalog.octet_length(payload) OPERATOR(pg_catalog.>=) 8000 THEN
          payload := pg_catalog.concat('{"xact_id":"', x, '"}');
          rung := '2';
        ELSE
          rung := '1';
        END IF;
        PERFORM pg_catalog.pg_notify({CHANNEL}, payload);
      END IF;
      rung := pg_catalog.set_config('notify_gateway.rung', rung, true);
    END IF;$template$,
      '{CHANNEL}', quote_literal(channel)),
      '{PAYLOAD}', CASE ring WHEN 'row' THEN format(
        $payload$pg_catalog.concat('{"xact_id":"', x, '","seq":', s, ',"user_id":',
        pg_catalog.to_json(%s), ',"event":', pg_catalog.to_json(kind), ',"at":',
        pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()), ',"data":', %s, '}')$payload$,
        who, "json") ELSE 'NULL' END)
    END
  $function$;

  -- The body of the trigger's function for one table; `is_plain` says that it needs no SET clause.
  --
  -- It is written out, rather than looked up for each row, since each row pays for it. (plpgsql sets
  -- every expression up anew in each transaction, so few and small ones count.) Fields of NEW
  -- and OLD are found when it runs, so it depends on no column. Where only columns are named, every
  -- function and operator in it is qualified and it needs no SET search_path, which costs as much as
  -- half of the rest; an expression needs one.
  --
  -- Whatever goes wrong while the row is made an event is caught in a block that writes nothing, so
  -- no subtransaction gets a number. Where a column has got another type since the table was watched,
  -- or since the session planned an expression, it fails: so what failed is tried once more, as a new
  -- statement that takes any type, slower, until watch() is run again or the session ends. The INSERTs
  -- stand outside: a log that cannot be written is not the fault of a row.
  CREATE OR REPLACE FUNCTION notify_gateway.trigger_body(
    relation regclass, entry notify_gateway.watch_entry, channel text,
    OUT body text, OUT is_plain boolean)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
  AS $function$
    DECLARE
      who     record;        -- user_id
      which   record;        -- id
      item    record;
      found_  record;
      columns text[];        -- all that the event is made of
      keys    text[] := '{}';
      items   text[] := '{}';
      types   regtype[] := '{}';
      plain   boolean[] := '{}';
      who_text   text;       -- templates: {ROW} stands for NEW, OLD and ($1)
      which_text text;
      which_json text;
      data_json  text;
      statements text[];
      is_partitioned boolean := (SELECT c.relkind = 'p' FROM pg_class AS c WHERE c.oid = relation);
    BEGIN
      who := notify_gateway.resolve(relation, 'user_id', entry.user_id);
      which := notify_gateway.resolve(relation, 'id', entry.row_id);
      is_plain := who.is_column AND which.is_column AND entry.condition IS NULL;
      columns := ARRAY[who.value, which.value];
      IF entry.condition IS NOT NULL THEN
        found_ := notify_gateway.resolve(relation, '"when"', entry.condition);
        IF found_.type <> 'boolean'::regtype THEN
          RAISE EXCEPTION 'watch(): "when" => %: it is of type %, not boolean',
            quote_literal(entry.condition), found_.type USING ERRCODE = 'datatype_mismatch';
        END IF;
      END IF;
      FOR item IN
        SELECT j.key, j.value FROM json_each_text(entry.data) AS j WHERE entry.data IS NOT NULL
        UNION ALL
        (SELECT a.attname::text, a.attname::text FROM pg_attribute AS a
          WHERE entry.data IS NULL AND a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
          ORDER BY a.attnum)
      LOOP
        found_ := notify_gateway.resolve(relation, format('data, %s', to_json(item.key)), item.value);
        is_plain := is_plain AND found_.is_column;
        keys := keys || item.key;
        items := items || found_.value;
        types := types || found_.type;
        plain := plain || found_.is_column;
        columns := columns || found_.value;
      END LOOP;
      IF cardinality(keys) = 0 THEN
        RAISE EXCEPTION 'watch(): data names nothing' USING ERRCODE = 'invalid_parameter_value';
      END IF;

      -- A column is a field of the row; beside expressions, of the subquery that they are made on.
      items := ARRAY(
        SELECT CASE WHEN is_plain THEN '{ROW}.' WHEN plain[i] THEN 'r.' ELSE '' END || items[i]
          FROM generate_subscripts(items, 1) AS i ORDER BY i);
      data_json := notify_gateway.object_expression(keys, ARRAY(
        SELECT notify_gateway.json_expression(items[i], types[i])
          FROM generate_subscripts(items, 1) AS i ORDER BY i));
      who.value := CASE WHEN is_plain THEN '{ROW}.' WHEN who.is_column THEN 'r.' ELSE '' END
                   || who.value;
      which.value := CASE WHEN is_plain THEN '{ROW}.' WHEN which.is_column THEN 'r.' ELSE '' END
                     || which.value;
      who_text := notify_gateway.key_expression(who.value, who.type);
      which_text := format('pg_catalog.concat(%s)',
                           notify_gateway.key_expression(which.value, which.type));
      which_json := notify_gateway.object_expression(
        '{id}', ARRAY[notify_gateway.json_expression(which.value, which.type)]);
      -- For the types as they were, and for whatever they are.
      statements := ARRAY[
        format('SELECT %s, %s, %s, %s', who_text, which_text, data_json, which_json),
        format('SELECT %s, %s, pg_catalog.replace(pg_catalog.replace(%s, E''\n'', ''''), E''\r'', ''''), %s',
          who_text, which_text,
          notify_gateway.object_expression(keys, ARRAY(
            SELECT notify_gateway.any_json_expression(items[i])
              FROM generate_subscripts(items, 1) AS i ORDER BY i)),
          notify_gateway.object_expression(
            '{id}', ARRAY[notify_gateway.any_json_expression(which.value)]))];
      IF NOT is_plain THEN
        -- Nobody's, where the condition does not hold.
        statements := ARRAY(SELECT format(
          'SELECT CASE WHEN %s THEN t."$who" END, t."$which", t."$data", t."$id" '
          'FROM (SELECT {ROW}.*) AS r, LATERAL (%s) AS t ("$who", "$which", "$data", "$id")',
          coalesce('(' || entry.condition || ')', 'true'), s) FROM unnest(statements) AS s);
      END IF;

      body := $template$
#variable_conflict use_column
DECLARE
  new_user pg_catalog.text; new_row pg_catalog.text; new_data pg_catalog.text; new_id pg_catalog.text;
  old_user pg_catalog.text; old_row pg_catalog.text; old_data pg_catalog.text; old_id pg_catalog.text;
  kind pg_catalog.text; x pg_catalog.xid8; s pg_catalog.int8;
  rung pg_catalog.text; payload pg_catalog.text;
  wrong_state pg_catalog.text; wrong_text pg_catalog.text;
BEGIN
  BEGIN
    {MAKE}
  EXCEPTION WHEN OTHERS THEN
    BEGIN
      IF TG_OP OPERATOR(pg_catalog.<>) 'DELETE' THEN
        EXECUTE {DYNAMIC} INTO new_user, new_row, new_data, new_id USING NEW;
      END IF;
      IF TG_OP OPERATOR(pg_catalog.<>) 'INSERT' THEN
        EXECUTE {DYNAMIC} INTO old_user, old_row, old_data, old_id USING OLD;
      END IF;
    EXCEPTION WHEN OTHERS THEN
      wrong_state := SQLSTATE;
      -- The text about a name or a type that is missing holds no value of the row; others may.
      IF pg_catalog.substr(wrong_state, 1, 2) OPERATOR(pg_catalog.=) '42' THEN
        wrong_text := SQLERRM;
      END IF;
    END;
  END;
  IF pg_catalog.octet_length(new_user) OPERATOR(pg_catalog.>) 255
     OR pg_catalog.octet_length(new_row) OPERATOR(pg_catalog.>) 255
     OR pg_catalog.octet_length(old_row) OPERATOR(pg_catalog.>) 255 THEN
    wrong_state := '22001';
    wrong_text := 'the user or the id is longer than 255 bytes';
  END IF;
  IF wrong_state IS NOT NULL THEN
    -- Once a transaction is enough to know.
    payload := pg_catalog.current_setting('notify_gateway.problem', true);
    IF payload IS NULL OR payload OPERATOR(pg_catalog.<>) '{ID}' THEN
      INSERT INTO notify_gateway.problem (watch, sqlstate, message)
      VALUES ({ID}, wrong_state, wrong_text);
      PERFORM pg_catalog.set_config('notify_gateway.problem', '{ID}', true);
    END IF;
    RETURN NULL;
  END IF;
  IF old_user IS NOT NULL THEN
    IF new_user IS NULL OR new_user OPERATOR(pg_catalog.<>) old_user
       OR new_row OPERATOR(pg_catalog.<>) old_row THEN
      kind := 'deleted';
      INSERT INTO notify_gateway.event (watch, user_id, row_id, event, data)
      VALUES ({ID}, old_user, old_row, kind, old_id) RETURNING xact_id, seq INTO x, s;
      {RING_OLD}
      old_user := NULL;
    END IF;
  END IF;
  IF new_user IS NULL{SAME} THEN
    RETURN NULL;
  END IF;
  kind := CASE WHEN old_user IS NULL THEN {EVENT} ELSE 'updated' END;
  {MOVED}
  INSERT INTO notify_gateway.event (watch, user_id, row_id, event, data)
  VALUES ({ID}, new_user, new_row, kind, new_data) RETURNING xact_id, seq INTO x, s;
  {RING_NEW}
  RETURN NULL;
END
$template$;
      body := replace(body, '{MAKE}', CASE WHEN is_plain THEN format(
        $make$IF TG_OP OPERATOR(pg_catalog.<>) 'INSERT' THEN
      IF TG_OP OPERATOR(pg_catalog.=) 'UPDATE' THEN
        IF ROW(%s)::pg_catalog.record OPERATOR(pg_catalog.*=) ROW(%s)::pg_catalog.record THEN
          RETURN NULL;
        END IF;
      END IF;
      old_user := %s;
      old_row := %s;
      old_id := %s;
    END IF;
    IF TG_OP OPERATOR(pg_catalog.<>) 'DELETE' THEN
      new_user := %s;
      new_row := %s;
      new_data := %s;
    END IF;$make$,
          (SELECT string_agg(DISTINCT 'NEW.' || c, ', ') FROM unnest(columns) AS c),
          (SELECT string_agg(DISTINCT 'OLD.' || c, ', ') FROM unnest(columns) AS c),
          replace(who_text, '{ROW}', 'OLD'), replace(which_text, '{ROW}', 'OLD'),
          replace(which_json, '{ROW}', 'OLD'),
          replace(who_text, '{ROW}', 'NEW'), replace(which_text, '{ROW}', 'NEW'),
          replace(data_json, '{ROW}', 'NEW'))
        ELSE format($make$IF TG_OP OPERATOR(pg_catalog.<>) 'DELETE' THEN
      %s INTO new_user, new_row, new_data, new_id;
    END IF;
    IF TG_OP OPERATOR(pg_catalog.<>) 'INSERT' THEN
      %s INTO old_user, old_row, old_data, old_id;
    END IF;$make$, replace(statements[1], '{ROW}', 'NEW'), replace(statements[1], '{ROW}', 'OLD'))
        END);
      body := replace(body, '{SAME}', CASE WHEN NOT is_plain THEN
        ' OR old_user IS NOT NULL AND new_data OPERATOR(pg_catalog.=) old_data' ELSE '' END);
      -- A row that moves to another partition is a DELETE there and an INSERT here, one after the
      -- other: the first must not have told more than the log, from which it is taken back.
      body := replace(body, '{MOVED}', CASE WHEN is_partitioned THEN
        $moved$IF TG_OP OPERATOR(pg_catalog.=) 'INSERT'
     AND pg_catalog.current_setting('notify_gateway.deleted', true) OPERATOR(pg_catalog.=) '{ID}' THEN
    DELETE FROM notify_gateway.event AS e
     WHERE e.row_id OPERATOR(pg_catalog.=) new_row AND e.watch OPERATOR(pg_catalog.=) {ID}
       AND e.user_id OPERATOR(pg_catalog.=) new_user AND e.event OPERATOR(pg_catalog.=) 'deleted'
       -- Not by the index on xact_id: this may be one of a million rows that move.
       AND e.xact_id::pg_catalog.text
             OPERATOR(pg_catalog.=) pg_catalog.pg_current_xact_id()::pg_catalog.text;
    IF FOUND THEN
      kind := 'updated';
    END IF;
  END IF;$moved$ ELSE '' END);
      body := replace(body, '{RING_OLD}', CASE WHEN is_partitioned
        THEN 'PERFORM pg_catalog.set_config(''notify_gateway.deleted'', ''{ID}'', true);' || E'\n    '
        ELSE '' END || notify_gateway.ring_source(
          CASE WHEN is_partitioned AND entry.ring = 'row' THEN 'ring' ELSE entry.ring END,
          'old_user', 'old_id', channel));
      body := replace(body, '{RING_NEW}',
        notify_gateway.ring_source(entry.ring, 'new_user', 'new_data', channel));
      body := replace(body, '{EVENT}', quote_literal(entry.event));
      body := replace(body, '{DYNAMIC}', quote_literal(replace(statements[2], '{ROW}', '($1)')));
      body := replace(body, '{ID}', entry.id::text);
    END
  $function$;

  -- ── 5. watch() ───────────────────────────────────────────────────────────────────────────────

  -- Runs what needs strong locks on these tables. While a lock is waited for, everyone who comes later
  -- waits behind it. Hence short attempts with pauses between them: the application never stands for
  -- longer than one attempt, 0.4 s for each lock. A wait ends before deadlock_timeout (1 s by default),
  -- so that another session that takes its locks in another order is not ended for a deadlock.
  CREATE OR REPLACE FUNCTION notify_gateway.in_short_attempts(command text, relations regclass[])
    RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
  AS $function$
    DECLARE
      lock_timeout_before text := current_setting('lock_timeout');
      pids text;
    BEGIN
      FOR attempt IN 1 .. 5 LOOP
        BEGIN
          PERFORM set_config('lock_timeout', '400ms', true);
          EXECUTE command;
          PERFORM set_config('lock_timeout', lock_timeout_before, true);
          RETURN;
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
          IF attempt = 5 THEN
            SELECT string_agg(DISTINCT l.pid::text, ', ') INTO pids FROM pg_locks AS l
             WHERE l.relation IN (SELECT r::oid FROM unnest(relations) AS r UNION ALL
                                  SELECT p.relid FROM unnest(relations) AS r, pg_partition_tree(r) AS p)
               AND l.granted AND l.pid <> pg_backend_pid()
               AND l.database = (SELECT d.oid FROM pg_database AS d
                                  WHERE d.datname = current_database());
            RAISE EXCEPTION 'table % is in use: no lock on it within % attempts of 0.4 s',
              array_to_string(relations, ' or '), attempt
              USING ERRCODE = 'lock_not_available',
                    DETAIL = 'Sessions that hold locks on it: ' || coalesce(pids, 'none any more'),
                    HINT = 'Nothing has been changed. See pg_stat_activity for these pids, '
                           'wait for them or end them, and run this again.';
          END IF;
        END;
        PERFORM pg_sleep(0.6);
      END LOOP;
    END
  $function$;

  -- Has the changes of a table told to its users. Run again with the same arguments it changes
  -- nothing, with others it replaces them. Run it as the table's owner, who has to be a member of
  -- the owner of this schema, or as a superuser.
  --   user_id  whose a row is: a column, or an expression of the columns; null is nobody
  --   id       what tells the table's rows apart
  --   event    the name of the event that a new row makes
  --   data     what the event carries: {"name": "column or expression", …}; null: every column
  --   when     which rows are told at all: a condition; null: every row
  --   ring     what NOTIFY carries: 'row' the event; 'ring' that there is one, for databases that are
  --            shared with strangers, who may all LISTEN; 'never': gateways find it by looking
  CREATE OR REPLACE FUNCTION notify_gateway.watch(
    relation regclass, user_id text DEFAULT 'user_id', id text DEFAULT 'id',
    event text DEFAULT 'notification', data json DEFAULT NULL, "when" text DEFAULT NULL,
    ring text DEFAULT 'row') RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
  AS $function$
    #variable_conflict use_column
    DECLARE
      role_before text := current_setting('role');
      owner    name := (SELECT n.nspowner::regrole::name FROM pg_namespace AS n
                         WHERE n.nspname = 'notify_gateway');
      channel  CONSTANT text := 'notifications';
      entry    notify_gateway.watch_entry;
      known    notify_gateway.watch_entry;
      made     record;
      named    record;
      family   oid[];
      is_new   boolean;
      item     record;
      command  text;
    BEGIN
      IF NOT pg_has_role(current_user, owner,
           CASE WHEN current_setting('server_version_num')::integer < 160000
                THEN 'MEMBER' ELSE 'SET' END) THEN
        RAISE EXCEPTION 'watch(): % is not a member of %, which owns the schema notify_gateway',
          current_user, owner USING ERRCODE = 'insufficient_privilege',
          HINT = format('GRANT %I TO %I;', owner, current_user);
      END IF;
      SELECT ns.nspname, c.relname, c.relkind INTO named
        FROM pg_class AS c JOIN pg_namespace AS ns ON ns.oid = c.relnamespace
       WHERE c.oid = watch.relation;
      IF named.relkind NOT IN ('r', 'p') THEN
        RAISE EXCEPTION 'watch(): % is not a table', watch.relation
          USING ERRCODE = 'wrong_object_type';
      END IF;
      IF watch.ring IS NULL OR watch.ring NOT IN ('row', 'ring', 'never') THEN
        RAISE EXCEPTION 'watch(): ring => %: it is ''row'', ''ring'' or ''never''',
          quote_nullable(watch.ring) USING ERRCODE = 'invalid_parameter_value';
      END IF;
      -- It stands in one line of the stream, and the client listens for it.
      IF watch.event IS NULL OR watch.event !~ '^[A-Za-z0-9_.:-]{1,64}$' OR watch.event IN
         ('connected', 'heartbeat', 'resync', 'closing', 'updated', 'deleted', 'error', 'open') THEN
        RAISE EXCEPTION 'watch(): event => %: it is a name of letters, digits and _ . : -, and not '
          'one that the stream or EventSource uses itself', quote_nullable(watch.event)
          USING ERRCODE = 'invalid_parameter_value';
      END IF;

      -- By its trigger, or, for a table that was made anew, by its name.
      SELECT w.* INTO known FROM notify_gateway.watch_entry AS w
       WHERE EXISTS (SELECT FROM pg_trigger AS t
                      WHERE t.tgrelid = watch.relation
                        AND t.tgfoid = to_regprocedure(format('notify_gateway.watch_%s()', w.id)))
          OR (w.schema_name, w.table_name) = (named.nspname, named.relname)
             AND NOT EXISTS (SELECT FROM pg_trigger AS t
                              WHERE t.tgfoid = to_regprocedure(format('notify_gateway.watch_%s()', w.id)))
       ORDER BY w.id LIMIT 1;
      PERFORM set_config('role', owner, true);
      entry := ROW(known.id, named.nspname, named.relname, watch.user_id, watch.id, watch.event,
                   watch.data, watch."when", watch.ring);
      IF known.id IS NULL THEN
        INSERT INTO notify_gateway.watch_entry AS w
               (schema_name, table_name, user_id, row_id, event, data, condition, ring)
        VALUES (entry.schema_name, entry.table_name, entry.user_id, entry.row_id, entry.event,
                entry.data, entry.condition, entry.ring) RETURNING w.id INTO entry.id;
      ELSIF known::text IS DISTINCT FROM entry::text THEN
        UPDATE notify_gateway.watch_entry AS w
           SET schema_name = entry.schema_name, table_name = entry.table_name,
               user_id = entry.user_id, row_id = entry.row_id, event = entry.event,
               data = entry.data, condition = entry.condition, ring = entry.ring
         WHERE w.id = entry.id;
      END IF;
      -- As who runs this: the owner of this schema may not see the table.
      PERFORM set_config('role', role_before, true);
      made := notify_gateway.trigger_body(watch.relation, entry, channel);
      PERFORM set_config('role', owner, true);
      -- Replaced only where it changes: that makes sessions plan it anew.
      IF (SELECT p.prosrc FROM pg_proc AS p
           WHERE p.oid = to_regprocedure(format('notify_gateway.watch_%s()', entry.id)))
         IS DISTINCT FROM made.body THEN
        EXECUTE format('CREATE OR REPLACE FUNCTION notify_gateway.watch_%s() RETURNS trigger '
          'LANGUAGE plpgsql SECURITY DEFINER %s AS %L', entry.id,
          CASE WHEN made.is_plain THEN '' ELSE 'SET search_path = pg_catalog, pg_temp' END, made.body);
        EXECUTE format('REVOKE EXECUTE ON FUNCTION notify_gateway.watch_%s() FROM PUBLIC', entry.id);
      END IF;
      -- What was wrong before is no longer known.
      DELETE FROM notify_gateway.problem AS p WHERE p.watch = entry.id;
      PERFORM set_config('role', role_before, true);

      family := ARRAY(SELECT watch.relation::oid
                       UNION SELECT p.relid::oid FROM pg_partition_tree(watch.relation) AS p);
      is_new := NOT EXISTS (
        SELECT FROM pg_trigger AS t
         WHERE t.tgrelid = watch.relation
           AND t.tgfoid = to_regprocedure(format('notify_gateway.watch_%s()', entry.id)));
      IF is_new OR known.ring = 'never' AND entry.ring <> 'never' THEN
        -- Gateways are to find what was written without a ring before anything rings: otherwise they
        -- would tell a row's older state after its newer one.
        IF entry.ring <> 'never' THEN
          PERFORM pg_notify(channel, json_build_object('xact_id', pg_current_xact_id()::text)::text);
        END IF;
        PERFORM notify_gateway.in_short_attempts(
          format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', watch.relation), ARRAY[watch.relation]);
      END IF;
      IF is_new THEN
        -- AFTER triggers fire in the order of their names. This one is to be the first: another that
        -- writes to watched tables would have its events before those of the row that caused them.
        EXECUTE format('CREATE TRIGGER "00_notify_gateway" AFTER INSERT OR UPDATE OR DELETE ON %s '
          'FOR EACH ROW EXECUTE FUNCTION notify_gateway.watch_%s()', watch.relation, entry.id);
      END IF;

      -- ALWAYS: for rows that logical replication or a restore brings in, too. (ENABLE TRIGGER ALL
      -- after a bulk load takes it away; this brings it back.) What is disabled stays so.
      FOR item IN
        SELECT t.tgrelid::regclass AS rel, t.tgname, t.tgenabled FROM pg_trigger AS t
         WHERE t.tgrelid = ANY (family) AND t.tgenabled <> 'A'
           AND t.tgfoid = to_regprocedure(format('notify_gateway.watch_%s()', entry.id))
         ORDER BY t.tgrelid = watch.relation DESC
      LOOP
        command := format('ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER %I', item.rel, item.tgname);
        IF item.tgenabled = 'D' THEN
          RAISE WARNING 'trigger % on % is disabled', item.tgname, item.rel
            USING HINT = 'If that is not meant: ' || command || ';';
          CONTINUE;
        END IF;
        BEGIN
          EXECUTE command;
        EXCEPTION WHEN insufficient_privilege THEN  -- before 15, those of partitions are "system" ones
          RAISE WARNING 'a superuser must run: %;', command;
        END;
      END LOOP;
    END
  $function$;

  -- The opposite. Events that are in the log are still delivered. A table that is gone is named by its
  -- id in notify_gateway.watched: SELECT notify_gateway.unwatch(id => 3)
  IF to_regprocedure('notify_gateway.unwatch(regclass)') IS NOT NULL THEN
    DROP FUNCTION notify_gateway.unwatch(regclass);
  END IF;
  CREATE OR REPLACE FUNCTION notify_gateway.unwatch(
    relation regclass DEFAULT NULL, id integer DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
  AS $function$
    #variable_conflict use_column
    DECLARE
      role_before text := current_setting('role');
      owner name := (SELECT n.nspowner::regrole::name FROM pg_namespace AS n
                      WHERE n.nspname = 'notify_gateway');
      item record;
    BEGIN
      IF (unwatch.relation IS NULL) = (unwatch.id IS NULL) THEN
        RAISE EXCEPTION 'unwatch(): name a table, or an id in notify_gateway.watched'
          USING ERRCODE = 'invalid_parameter_value';
      END IF;
      FOR item IN
        SELECT w.id, t.tgname, t.tgrelid::regclass AS relation FROM notify_gateway.watch_entry AS w
          LEFT JOIN pg_trigger AS t ON t.tgparentid = 0
               AND t.tgfoid = to_regprocedure(format('notify_gateway.watch_%s()', w.id))
         WHERE w.id = unwatch.id OR t.tgrelid = unwatch.relation
            OR t.tgrelid IS NULL AND (w.schema_name, w.table_name)
               = (SELECT ns.nspname::text, c.relname::text
                    FROM pg_class AS c JOIN pg_namespace AS ns ON ns.oid = c.relnamespace
                   WHERE c.oid = unwatch.relation)
      LOOP
        IF item.tgname IS NOT NULL THEN
          PERFORM notify_gateway.in_short_attempts(
            format('DROP TRIGGER %I ON %s', item.tgname, item.relation), ARRAY[item.relation]);
        END IF;
        PERFORM set_config('role', owner, true);
        EXECUTE format('DROP FUNCTION IF EXISTS notify_gateway.watch_%s()', item.id);
        DELETE FROM notify_gateway.watch_entry AS w WHERE w.id = item.id;
        PERFORM set_config('role', role_before, true);
      END LOOP;
      IF NOT FOUND THEN
        RAISE NOTICE '% is not watched', coalesce(unwatch.relation::text, unwatch.id::text);
      END IF;
    END
  $function$;

  -- Takes everything away but the roles: the triggers, and this schema. To be run like watch(). A bare
  -- DROP SCHEMA … CASCADE takes its locks in an order of its own, and can end in a deadlock with a
  -- writer or a gateway, of which one then fails.
  CREATE OR REPLACE FUNCTION notify_gateway.uninstall() RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
  AS $function$
    DECLARE
      role_before text := current_setting('role');
      owner   name := (SELECT n.nspowner::regrole::name FROM pg_namespace AS n
                        WHERE n.nspname = 'notify_gateway');
      watched regclass[] := ARRAY(
        SELECT t.tgrelid::regclass FROM notify_gateway.watch_entry AS w
          JOIN pg_trigger AS t ON t.tgparentid = 0
               AND t.tgfoid = to_regprocedure(format('notify_gateway.watch_%s()', w.id))
         ORDER BY w.id);
      ours    regclass[] := ARRAY(
        SELECT c.oid::regclass FROM pg_class AS c
         WHERE c.relnamespace = 'notify_gateway'::regnamespace AND c.relkind = 'r');
    BEGIN
      -- The application's tables first, as who runs this: so do the writers.
      PERFORM notify_gateway.in_short_attempts(
        CASE WHEN watched <> '{}' THEN
          format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE; ', array_to_string(watched, ', ')) ELSE '' END
        || format('SET LOCAL ROLE %I; LOCK TABLE %s IN ACCESS EXCLUSIVE MODE; '
                  'DROP SCHEMA notify_gateway CASCADE', owner, array_to_string(ours, ', ')),
        watched || ours);
      PERFORM set_config('role', role_before, true);
    END
  $function$;

  -- What is watched, and how it is. A table may be gone, renamed, or be another one of the same name.
  CREATE OR REPLACE VIEW notify_gateway.watched AS
    SELECT w.id,
           coalesce(bare.relation::regclass::text, t.tgrelid::regclass::text,
                    format('%I.%I', w.schema_name, w.table_name)) AS relation,
           w.user_id, w.row_id, w.event, w.data, w.condition AS "when", w.ring,
           CASE WHEN bare.relation IS NOT NULL THEN 'no trigger'
                WHEN t.tgenabled IS NULL THEN 'no table'
                WHEN t.tgenabled = 'A' THEN 'always'
                WHEN t.tgenabled = 'D' THEN 'disabled'
                WHEN t.tgenabled = 'R' THEN 'replica'
                ELSE 'origin' END AS trigger,
           p.sqlstate AS problem, p.message AS problem_text, p.at AS problem_at
      FROM notify_gateway.watch_entry AS w
      LEFT JOIN LATERAL (
        SELECT t.tgrelid, t.tgenabled FROM pg_trigger AS t
         WHERE t.tgfoid = to_regprocedure(format('notify_gateway.watch_%s()', w.id))
           AND t.tgparentid = 0
         ORDER BY t.oid LIMIT 1) AS t ON true
      LEFT JOIN LATERAL (  -- a table of the name that was given to watch(), without a trigger of ours
        SELECT c.oid AS relation FROM pg_class AS c
         WHERE c.relname = w.table_name
           AND c.relnamespace = (SELECT n.oid FROM pg_namespace AS n WHERE n.nspname = w.schema_name)
           AND NOT EXISTS (SELECT FROM pg_trigger AS f JOIN pg_proc AS p ON p.oid = f.tgfoid
                            WHERE f.tgrelid = c.oid
                              AND p.pronamespace = 'notify_gateway'::regnamespace)) AS bare ON true
      LEFT JOIN LATERAL (
        SELECT p.sqlstate, p.message, p.at FROM notify_gateway.problem AS p
         WHERE p.watch = w.id ORDER BY p.at DESC LIMIT 1) AS p ON true;

  -- ── 6. The server's life, and a cursor beside a list ─────────────────────────────────────────

  -- The number of the server's present life. After a crash within one start, the place in the WAL
  -- that the recovery ended at is another; services that do not tell it restart for a crash.
  CREATE OR REPLACE FUNCTION notify_gateway.current_epoch() RETURNS integer
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
  AS $function$
    DECLARE
      recovered pg_lsn;
    BEGIN
      BEGIN
        recovered := pg_last_wal_replay_lsn();
      EXCEPTION WHEN insufficient_privilege OR feature_not_supported OR undefined_function
                 OR object_not_in_prerequisite_state THEN
        NULL;
      END;
      RETURN 1 + abs(hashtextextended(
        concat_ws(' ', s.id, date_part('epoch', pg_postmaster_start_time()), recovered), 0)
        % 2147483646)::integer FROM notify_gateway.state AS s;
    END
  $function$;

  -- Begins an epoch if the server's life is another than the last one's, and returns the current one.
  -- Cursors of before are cut back to what was on disk for good: numbers above may have been given
  -- out anew. On the same cluster and timeline every committed row is there, with its number; on
  -- another timeline (a promotion) a row of another transaction may have it. In another cluster the
  -- numbers mean the same only if they go on from there (pg_upgrade).
  CREATE OR REPLACE FUNCTION notify_gateway.begin_epoch() RETURNS integer
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
  AS $function$
    DECLARE
      flushed xid8;
      last    notify_gateway.epoch;
      life    notify_gateway.epoch;
    BEGIN
      -- One gateway at a time; the others then find what the first has written.
      SELECT s.flushed INTO STRICT flushed FROM notify_gateway.state AS s FOR UPDATE;
      SELECT e.* INTO last FROM notify_gateway.epoch AS e ORDER BY e.place DESC LIMIT 1;
      life.epoch := notify_gateway.current_epoch();
      IF last.epoch = life.epoch THEN
        RETURN life.epoch;
      END IF;
      BEGIN
        life.system_identifier := c.system_identifier FROM pg_control_system() AS c;
        life.timeline := left(pg_walfile_name(pg_current_wal_lsn()), 8);
      EXCEPTION WHEN insufficient_privilege OR feature_not_supported OR undefined_function
                 OR object_not_in_prerequisite_state THEN
        NULL;
      END;
      life.relation := 'notify_gateway.epoch'::regclass;
      IF last.relation = life.relation AND pg_current_xact_id() > flushed THEN
        life.first_xact := (flushed::text::numeric + 1)::text::xid8;
      END IF;
      IF last.place IS NOT NULL AND life.first_xact IS NULL THEN
        -- The numbers by which the log is pruned mean nothing here either.
        DELETE FROM notify_gateway.checkpoint;
        UPDATE notify_gateway.state SET pruned_below = NULL;
      END IF;
      life.is_restart := coalesce((last.system_identifier, last.timeline)
                                  = (life.system_identifier, life.timeline), false);
      -- By a chance of one in two thousand million another life has had this number.
      DELETE FROM notify_gateway.epoch AS e WHERE e.epoch = life.epoch;
      INSERT INTO notify_gateway.epoch
             (epoch, system_identifier, timeline, relation, first_xact, is_restart)
      VALUES (life.epoch, life.system_identifier, life.timeline, life.relation, life.first_xact,
              life.is_restart);
      UPDATE notify_gateway.state SET flushed = pg_current_xact_id();
      RETURN life.epoch;
    END
  $function$;

  -- The cursor of a client whose list is read in this transaction (REPEATABLE READ), or in this very
  -- statement: its stream begins exactly behind that list. Null on a standby. Who is to call it needs
  -- GRANT USAGE ON SCHEMA notify_gateway; it tells nothing of anybody's events.
  --
  -- It claims what no crash can take back: what was on disk for good when a gateway last wrote
  -- state.flushed, and the transactions since then that this snapshot sees and that have events, up to
  -- the last seq given out. Where these are too many, it claims the snapshot as it is: a crash within
  -- the next second then has the gateway cut it back, and a few events come twice.
  --
  --     epoch : xmax : holes : seq : transactions : own transaction : its seq .
  --
  -- A list is ascending, its first number whole, the others distances from the one before.
  CREATE OR REPLACE FUNCTION notify_gateway.cursor() RETURNS text
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $function$
    DECLARE
      snapshot pg_snapshot;
      xmax     xid8;
      flushed  xid8;
      holes    xid8[];
      singly   xid8[];
      last_seq bigint;
      own      xid8;
      own_seq  bigint;
    BEGIN
      IF pg_is_in_recovery() THEN
        RETURN NULL;
      END IF;
      snapshot := pg_current_snapshot();
      xmax := pg_snapshot_xmax(snapshot);
      flushed := s.flushed FROM notify_gateway.state AS s;
      last_seq := s.last_value FROM notify_gateway.seq AS s;
      -- One's own events are had as far as they are written; a snapshot does not say so.
      own := pg_current_xact_id_if_assigned();
      IF EXISTS (SELECT FROM notify_gateway.event AS e WHERE e.xact_id = own) THEN
        own_seq := currval('notify_gateway.seq');
      END IF;
      -- From one transaction to the next: one look at the index for each, however many rows it has.
      IF xmax > flushed THEN
        WITH RECURSIVE later AS (
          (SELECT e.xact_id, 1 AS number FROM notify_gateway.event AS e
            WHERE e.xact_id > flushed AND e.xact_id < pg_snapshot_xmax(snapshot)
            ORDER BY e.xact_id LIMIT 1)
          UNION ALL
          SELECT n.xact_id, later.number + 1 FROM later, LATERAL (
            SELECT e.xact_id FROM notify_gateway.event AS e
             WHERE e.xact_id > later.xact_id AND e.xact_id < pg_snapshot_xmax(snapshot)
             ORDER BY e.xact_id LIMIT 1) AS n
           WHERE later.number < 101)
        SELECT array_agg(l.xact_id ORDER BY l.xact_id) INTO singly FROM later AS l
         WHERE l.xact_id IS DISTINCT FROM own;
        IF coalesce(cardinality(singly), 0) <= 100 THEN
          xmax := (flushed::text::numeric + 1)::text::xid8;
        ELSE
          singly := NULL;
        END IF;
      END IF;
      holes := ARRAY(SELECT x FROM (SELECT pg_snapshot_xip(snapshot) UNION SELECT own) AS h (x)
                      WHERE x < xmax ORDER BY x);
      -- A gateway takes 2048 characters. Of more holes than fit, the oldest are kept.
      IF cardinality(holes) > 80 THEN
        xmax := coalesce((
          SELECT h.x FROM (
            SELECT d.x, sum(length(d.distance::text) + 1) OVER (ORDER BY d.x) AS length
              FROM (SELECT x, x::text::numeric - lag(x::text::numeric, 1, 0::numeric) OVER (ORDER BY x) AS distance
                      FROM unnest(holes) AS x) AS d) AS h
           WHERE h.length > 1200 ORDER BY h.x LIMIT 1), xmax);
        holes := ARRAY(SELECT x FROM unnest(holes) AS x WHERE x < xmax ORDER BY x);
      END IF;
      RETURN concat_ws(':', notify_gateway.current_epoch(), xmax, notify_gateway.distances(holes),
                       last_seq, notify_gateway.distances(singly),
                       coalesce(CASE WHEN own_seq IS NOT NULL THEN own::text END, ''),
                       coalesce(own_seq::text, '') || '.');
    END
  $function$;

  CREATE OR REPLACE FUNCTION notify_gateway.distances(numbers xid8[]) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
  AS $function$
    SELECT coalesce(string_agg((x::text::numeric - before)::text, ',' ORDER BY x), '')
      FROM (SELECT x, lag(x::text::numeric, 1, 0::numeric) OVER (ORDER BY x) AS before
              FROM unnest(numbers) AS x) AS n
  $function$;

  -- Who may run these may have code run as their owner.
  REVOKE EXECUTE ON FUNCTION
    notify_gateway.watch(regclass, text, text, text, json, text, text),
    notify_gateway.unwatch(regclass, integer),
    notify_gateway.uninstall(),
    notify_gateway.in_short_attempts(text, regclass[]),
    notify_gateway.trigger_body(regclass, notify_gateway.watch_entry, text),
    notify_gateway.resolve(regclass, text, text) FROM PUBLIC;

  -- ── 7. Revocations from the future ───────────────────────────────────────────────────────────
  -- After a dump and restore into another cluster, rows carry transaction numbers that this cluster
  -- has not reached yet. Revocations hold all the same; the events are removed by the gateways.

  UPDATE notify_gateway.revocation AS r SET xact_id = pg_current_xact_id()
   WHERE r.xact_id >= pg_snapshot_xmax(pg_current_snapshot())
     AND r.xact_id IS DISTINCT FROM pg_current_xact_id_if_assigned();

  -- ── 8. The gateway's role ────────────────────────────────────────────────────────────────────
  -- It cannot log in. Your login role becomes a member: GRANT notify_gateway TO the_login_role;

  PERFORM set_config('role', role_before, true);
  BEGIN
    IF to_regrole('notify_gateway') IS NULL THEN
      CREATE ROLE notify_gateway NOLOGIN;
    END IF;
  EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;  -- roles are the cluster's: made just now
    WHEN insufficient_privilege THEN
      RAISE NOTICE 'role notify_gateway is missing, and % may not create roles', me
        USING HINT = 'Let someone who may run: CREATE ROLE notify_gateway NOLOGIN;  '
                     'and run this file again: it then grants what the role needs.';
  END;

  -- What it may do, and no more: nothing of the application's. Only what is missing is granted; what
  -- PUBLIC has, and we are not the ones to grant, will do.
  FOR item IN
    SELECT format('GRANT %s ON %s TO notify_gateway', g.privilege, g.object) AS command
      FROM (
        SELECT 'CONNECT', format('DATABASE %I', d.datname), d.datacl, d.datdba, 'd'
          FROM pg_database AS d WHERE d.datname = current_database()
        UNION ALL
        SELECT 'USAGE', format('SCHEMA %I', s.nspname), s.nspacl, s.nspowner, 'n'
          FROM pg_namespace AS s WHERE s.oid = 'notify_gateway'::regnamespace
        UNION ALL
        SELECT t.privilege, format('TABLE %s', c.oid::regclass), c.relacl, c.relowner, 'r'
          FROM (VALUES ('SELECT', 'notify_gateway.event'),       ('DELETE', 'notify_gateway.event'),
                       ('SELECT', 'notify_gateway.watch_entry'), ('SELECT', 'notify_gateway.watched'),
                       ('SELECT', 'notify_gateway.problem'),     ('DELETE', 'notify_gateway.problem'),
                       ('SELECT', 'notify_gateway.checkpoint'),  ('INSERT', 'notify_gateway.checkpoint'),
                       ('DELETE', 'notify_gateway.checkpoint'),
                       ('SELECT', 'notify_gateway.state'),       ('UPDATE', 'notify_gateway.state'),
                       ('SELECT', 'notify_gateway.epoch'),       ('INSERT', 'notify_gateway.epoch'),
                       ('DELETE', 'notify_gateway.epoch'),
                       ('SELECT', 'notify_gateway.revocation')) AS t (privilege, relation)
          JOIN pg_class AS c ON c.oid = t.relation::regclass
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
      RAISE NOTICE '% may not grant this, its owner must: %;', me, item.command;
    END;
  END LOOP;

  -- ── 9. The table ─────────────────────────────────────────────────────────────────────────────
  -- Created if it is missing and no other table is watched. An existing table of this shape is
  -- watched as it is. For a table of another shape, watch() has to be told which column is what.

  IF to_regclass('public.notifications') IS NOT NULL OR NOT makes_table
     OR EXISTS (SELECT FROM notify_gateway.watched) THEN
    NULL;
  ELSIF NOT has_schema_privilege('public', 'CREATE') THEN
    RAISE NOTICE 'there is no table public.notifications, and % may not create one', me
      USING HINT = 'Watch a table of yours: SELECT notify_gateway.watch(''app.alerts'', …);';
  ELSE
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
  tbl := to_regclass('public.notifications');
  SELECT string_agg(wanted.name, ', ') INTO names
    FROM unnest('{id,user_id,type,title,message,status,metadata,related_session_id,created_at}'::text[])
         AS wanted (name)
   WHERE NOT EXISTS (SELECT FROM pg_attribute AS a
                      WHERE a.attrelid = tbl AND a.attname = wanted.name
                        AND a.attnum > 0 AND NOT a.attisdropped);
  -- Watched in another way, it stays so.
  IF tbl IS NOT NULL AND NOT EXISTS (SELECT FROM notify_gateway.watched AS w
                  WHERE to_regclass(w.relation) = tbl AND w.trigger NOT LIKE 'no %') THEN
    IF names IS NULL THEN
      PERFORM notify_gateway.watch(tbl, data => '{
        "id": "id", "type": "type", "title": "title", "message": "message", "status": "status",
        "metadata": "metadata", "created_at": "created_at",
        "related_session_id": "related_session_id"}');
    ELSE
      RAISE NOTICE 'table % has no column %: it is not watched yet', tbl, names
        USING HINT = format('Say what is what, for example: SELECT notify_gateway.watch(%L, '
          'user_id => ''recipient_id'', data => ''{"id": "id", "title": "subject"}'');', tbl::text);
    END IF;
  END IF;
  -- An upgrade reaches the functions of all triggers.
  FOR item IN
    SELECT w.* FROM notify_gateway.watched AS w
     WHERE w.trigger NOT LIKE 'no %' AND to_regclass(w.relation) IS NOT NULL
  LOOP
    PERFORM notify_gateway.watch(item.relation::regclass, item.user_id, item.row_id, item.event,
                                 item.data, item."when", item.ring);
  END LOOP;

  PERFORM set_config('lock_timeout', lock_timeout_before, true);
  PERFORM set_config('search_path', search_path_before, true);
END
$schema$;
