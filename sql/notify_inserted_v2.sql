-- Rings when rows were inserted: the wake channel where some can be claimed now, the status channel where some came in
-- with any status but detected and generating.
-- TG_ARGV: wake channel, status channel. Transition table: new_rows.
-- Runs as the inserting role, which needs no privilege for it; an unpinned search_path could be hijacked.
-- The wake is silent while a worker is quiet (all its slots are taken) and none is on watch: see reactor/bell.py. Their
-- locks are only looked at: the subtransaction is always undone, and lets go what it locked. Where they cannot be had,
-- it rings.
CREATE FUNCTION reactor.notify_inserted() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  rings boolean;
  others boolean;
  told text[] := '{}';
  message text;
BEGIN
  -- A full queue would fail the producer's commit, and no handler could catch it: the sweep finds the rows instead.
  IF pg_notification_queue_usage() >= 0.5 THEN
    RETURN NULL;
  END IF;
  BEGIN
    SELECT
      coalesce(bool_or(
        lower(status::text) = 'detected' AND (generation_due_at IS NULL OR generation_due_at <= clock_timestamp())
      ), false),
      coalesce(bool_or(lower(status::text) NOT IN ('detected', 'generating')), false)
    INTO rings, others
    FROM new_rows;
    IF others THEN
      told := ARRAY(
        SELECT CASE
          WHEN count(*) > 200 THEN json_build_object('status', lower(status::text), 'count', count(*))
          ELSE json_build_object('status', lower(status::text), 'token_ids', array_agg(token_id ORDER BY token_id))
        END::text
        FROM new_rows
        WHERE lower(status::text) NOT IN ('detected', 'generating')
        GROUP BY lower(status::text)
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
      RAISE WARNING 'reactor.notify_inserted: %', SQLERRM;
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
