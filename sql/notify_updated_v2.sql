-- Rings when rows changed: the wake channel where some became detected and can be claimed now, the status channel where
-- some changed to any status but detected and generating.
-- TG_ARGV: wake channel, status channel. Transition tables: old_rows, new_rows.
-- Runs as the updating role, which needs no privilege for it; an unpinned search_path could be hijacked.
-- Transition tables are compared by EXCEPT, never joined: a join's plan is cached per session for the first row count
-- seen, and an UPDATE of 4,000 rows after one of a single row took 1,555 ms instead of 7.
-- The wake is silent while a worker is quiet (all its slots are taken) and none is on watch: see reactor/bell.py. Their
-- locks are only looked at: the subtransaction is always undone, and lets go what it locked. Where they cannot be had,
-- it rings.
CREATE FUNCTION reactor.notify_updated() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  waiting boolean;
  others boolean;
  rings boolean := false;
  told text[] := '{}';
  message text;
BEGIN
  -- A full queue would fail the writer's commit, and no handler could catch it: the sweep finds the rows instead.
  IF pg_notification_queue_usage() >= 0.5 THEN
    RETURN NULL;
  END IF;
  BEGIN
    SELECT
      coalesce(bool_or(
        lower(status::text) = 'detected' AND (generation_due_at IS NULL OR generation_due_at <= clock_timestamp())
      ), false),
      coalesce(bool_or(lower(status::text) NOT IN ('detected', 'generating')), false)
    INTO waiting, others
    FROM new_rows;
    -- Claims, renewals and records leave only rows that are generating: the common case ends here.
    IF NOT waiting AND NOT others THEN
      RETURN NULL;
    END IF;
    IF others THEN
      told := ARRAY(
        SELECT CASE
          WHEN count(*) > 200 THEN json_build_object('status', status, 'count', count(*))
          ELSE json_build_object('status', status, 'token_ids', array_agg(token_id ORDER BY token_id))
        END::text
        FROM (
          SELECT token_id, lower(status::text) AS status
          FROM new_rows
          WHERE lower(status::text) NOT IN ('detected', 'generating')
          EXCEPT
          SELECT token_id, lower(status::text)
          FROM old_rows
        ) AS moved
        GROUP BY status
      );
    END IF;
    IF waiting THEN
      rings := EXISTS (
        SELECT token_id
        FROM new_rows
        WHERE lower(status::text) = 'detected' AND (generation_due_at IS NULL OR generation_due_at <= clock_timestamp())
        EXCEPT
        SELECT token_id
        FROM old_rows
        WHERE lower(status::text) = 'detected' AND (generation_due_at IS NULL OR generation_due_at <= clock_timestamp())
      );
    END IF;
    IF rings THEN
      rings := pg_try_advisory_xact_lock_shared(hashtextextended(TG_ARGV[0]::text, 1))
        OR NOT pg_try_advisory_xact_lock_shared(hashtextextended(TG_ARGV[0]::text, 0));
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'RX000';
  EXCEPTION
    WHEN SQLSTATE 'RX000' OR insufficient_privilege OR out_of_memory THEN
      NULL;
    -- A table that lost a column of ours must not lose its writers: the sweep's error, in a worker's log, says it louder.
    WHEN OTHERS THEN
      RAISE WARNING 'reactor.notify_updated: %', SQLERRM;
      RETURN NULL;
  END;
  IF rings THEN
    PERFORM pg_notify(TG_ARGV[0]::text, ''::text);
  END IF;
  FOREACH message IN ARRAY told LOOP
    PERFORM pg_notify(TG_ARGV[1]::text, message);
  END LOOP;
  RETURN NULL;
END
$$;
