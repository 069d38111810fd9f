-- Rings when rows changed: the wake channel if a row became detected and can be claimed now, the status channel for
-- rows whose status changed to anything but detected and generating.
-- TG_ARGV: wake channel, status channel, and the columns of key and number (id and token_id, if they are not given).
-- Labels are compared in lower case by the C collation, because a database's own may lower them to other words.
-- Transition tables: old_rows, new_rows.
-- Silent in a session with reactor.silent = on. A transaction that calls PREPARE TRANSACTION must be silent, because
-- PostgreSQL refuses that after a NOTIFY. Tables that the setting lists are silent for inserts only: see notify_inserted.
-- Runs as the updating role, which needs no privilege for it. The search_path is pinned because another could be
-- hijacked. No literal has a backslash, because the session decides how one is read.
-- Transition tables are compared by EXCEPT, never joined: a join's plan is cached per session for the first row count
-- seen, and an UPDATE of 4,000 rows after one of a single row took 1,555 ms instead of 7.
-- The wake is silent while a worker is quiet (all its slots are taken) and none is on watch: see reactor/engine/wake/bell.py. The
-- first block only looks at their locks: it ends by an exception, which releases what it locked.
-- Any role may hold the locks that say so. So before a wake is silent the holders' roles are looked up: a worker's role is
-- one that may write the epoch. A look costs 0.2 ms, and its answer counts for a tenth of a second in this session. A
-- stranger may hold thousands of locks, so a session is looked up once, and with more than 32 sessions the wake rings.
-- Nothing here may fail the writer's statement: whatever raises, the block around it turns into a warning. Each NOTIFY
-- has a block of its own, so that one that fails takes back nothing else.
CREATE OR REPLACE FUNCTION reactor.notify_updated() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  waiting boolean := false;
  rings boolean := false;
  others boolean := false;
  silent boolean := false;
  looked boolean := false;
  silenced text;
  remembered text;
  trouble text;
BEGIN
  BEGIN
    -- A full queue would fail the writer's commit, which no handler can catch. The sweep finds the rows instead.
    IF pg_notification_queue_usage() >= 0.5 THEN
      RETURN NULL;
    END IF;
    silenced := current_setting('reactor.silent', true);
    IF lower(silenced) IN ('on', 'true', 'yes', '1') THEN
      RETURN NULL;
    END IF;
    SELECT
      coalesce(bool_or(
        lower(status::text COLLATE "C") = 'detected' AND (generation_due_at IS NULL OR generation_due_at <= clock_timestamp())
      ), false),
      coalesce(bool_or(lower(status::text COLLATE "C") NOT IN ('detected', 'generating')), false)
    INTO waiting, others
    FROM new_rows;
    -- Claims, renewals and records leave only rows that are generating: the common case ends here.
    IF NOT waiting AND NOT others THEN
      RETURN NULL;
    END IF;
    IF waiting THEN
      rings := true;
      EXECUTE format(
        $rings$
        SELECT EXISTS (
          SELECT %1$I
          FROM new_rows
          WHERE lower(status::text COLLATE "C") = 'detected'
            AND (generation_due_at IS NULL OR generation_due_at <= clock_timestamp())
          EXCEPT
          SELECT %1$I
          FROM old_rows
          WHERE lower(status::text COLLATE "C") = 'detected'
            AND (generation_due_at IS NULL OR generation_due_at <= clock_timestamp())
        )
        $rings$,
        coalesce(TG_ARGV[2], 'id'::text)
      ) INTO rings;
    END IF;
    -- Should anything in here raise, rings stays true.
    IF rings THEN
      silent := NOT pg_try_advisory_xact_lock_shared(hashtextextended(TG_ARGV[0]::text, 1))
        AND pg_try_advisory_xact_lock_shared(hashtextextended(TG_ARGV[0]::text, 0));
    END IF;
    IF silent THEN
      remembered := nullif(current_setting('reactor.silence_' || TG_RELID::text, true), '');
      IF split_part(remembered, ' ', 1)::numeric - extract(epoch FROM clock_timestamp())::numeric BETWEEN 0 AND 0.1 THEN
        silent := split_part(remembered, ' ', 2)::boolean;
      ELSE
        -- objsubid is 1 for the lock of a quiet worker, 2 for that of a worker with a watch of its own.
        WITH holders AS MATERIALIZED (
          SELECT DISTINCT held.pid, held.objsubid
          FROM pg_locks AS held
          WHERE locktype = 'advisory'
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND granted
            AND mode = 'ExclusiveLock'
            AND CASE objsubid
              WHEN 1 THEN (classid::bigint << 32) | objid::bigint = (SELECT hashtextextended(TG_ARGV[0]::text, 1))
              WHEN 2 THEN classid::bigint = (SELECT hashtext(TG_ARGV[0]::text)::bigint & 4294967295)
            END
          LIMIT 33
        )
        SELECT (SELECT count(*) FROM holders) <= 32 AND coalesce(bool_or(objsubid = 1) AND NOT bool_or(objsubid = 2), false)
        INTO silent
        FROM holders
        CROSS JOIN LATERAL pg_stat_get_activity(holders.pid) AS holder
        WHERE has_column_privilege(holder.usesysid, TG_RELID, 'generation_epoch'::text, 'UPDATE'::text);
        looked := true;
      END IF;
      rings := NOT silent;
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'RX000';
  EXCEPTION
    WHEN SQLSTATE 'RX000' THEN
      NULL;
    WHEN OTHERS THEN
      -- Still true, rings says that only the locks could not be looked at: then the wake is not silent.
      trouble := CASE WHEN NOT rings THEN SQLERRM END;
  END;
  IF looked THEN
    BEGIN
      PERFORM set_config(
        'reactor.silence_' || TG_RELID::text,
        (extract(epoch FROM clock_timestamp())::numeric + 0.1)::text || ' ' || silent::text,
        false
      );
    EXCEPTION
      WHEN OTHERS THEN
        trouble := SQLERRM;
    END;
  END IF;
  IF rings THEN
    BEGIN
      PERFORM pg_notify(TG_ARGV[0]::text, ''::text);
    EXCEPTION
      WHEN OTHERS THEN
        trouble := SQLERRM;
    END;
  END IF;
  IF others THEN
    BEGIN
      -- Planned anew each time, because the columns' names are the table's, and so are the row counts.
      EXECUTE format(
        $told$
        SELECT count(pg_notify(
          $1,
          CASE
            WHEN tokens <= 200 AND octet_length(listed) <= 7900 THEN listed
            ELSE json_build_object('status', status, 'count', tokens)::text
          END
        ))
        FROM (
          SELECT
            status,
            tokens,
            json_build_object('status', status, 'token_ids', json_agg(
              CASE
                -- A JSON number beyond 2^53 is not exact in most languages.
                WHEN to_json(number)::text = number::text
                  AND (length(number::text) < 16 OR abs(number::text::numeric) <= 9007199254740992)
                  THEN to_json(number)
                ELSE to_json(number::text)
              END
              ORDER BY number
            ) FILTER (WHERE tokens <= 200))::text AS listed
          FROM (
            SELECT number, status, count(*) OVER (PARTITION BY status) AS tokens
            FROM (
              SELECT %2$I AS key, %1$I AS number, lower(status::text COLLATE "C") AS status
              FROM new_rows
              WHERE lower(status::text COLLATE "C") NOT IN ('detected', 'generating')
              EXCEPT
              SELECT %2$I, %1$I, lower(status::text COLLATE "C")
              FROM old_rows
            ) AS moved
          ) AS counted
          GROUP BY status, tokens
        ) AS told
        $told$,
        coalesce(TG_ARGV[3], 'token_id'::text),
        coalesce(TG_ARGV[2], 'id'::text)
      ) USING TG_ARGV[1]::text;
    EXCEPTION
      WHEN OTHERS THEN
        trouble := SQLERRM;
    END;
  END IF;
  IF trouble IS NOT NULL THEN
    BEGIN
      RAISE WARNING 'reactor.notify_updated: %', trouble;
    EXCEPTION
      -- The client's encoding may lack a character of it.
      WHEN OTHERS THEN
        NULL;
    END;
  END IF;
  RETURN NULL;
END
$$;
