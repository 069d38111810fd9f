-- Rings when rows were inserted: the wake channel where some can be claimed now, the status channel where some came in
-- with any status but detected and generating.
-- TG_ARGV: wake channel, status channel. Transition table: new_rows.
-- Runs as the inserting role, which needs no privilege for it; an unpinned search_path could be hijacked.
CREATE FUNCTION reactor.notify_inserted() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  rings boolean := true;
  changed record;
BEGIN
  -- A full queue would fail the producer's commit, and no handler could catch it: the sweep finds the rows instead.
  IF pg_notification_queue_usage() >= 0.5 THEN
    RETURN NULL;
  END IF;
  IF EXISTS (
    SELECT
    FROM new_rows
    WHERE lower(status::text) = 'detected' AND (generation_due_at IS NULL OR generation_due_at <= clock_timestamp())
  ) THEN
    -- Silent while a worker is quiet (all its slots are taken) and none is on watch: see reactor/bell.py. The locks are
    -- only looked at: what the subtransaction locked, its end lets go. Where they cannot be had, it rings.
    BEGIN
      rings := pg_try_advisory_xact_lock_shared(hashtextextended(TG_ARGV[0]::text, 1))
        OR NOT pg_try_advisory_xact_lock_shared(hashtextextended(TG_ARGV[0]::text, 0));
      RAISE EXCEPTION USING ERRCODE = 'RX000';
    EXCEPTION
      WHEN OTHERS THEN NULL;
    END;
    IF rings THEN
      PERFORM pg_notify(TG_ARGV[0]::text, ''::text);
    END IF;
  END IF;
  FOR changed IN
    SELECT
      lower(status::text) AS status,
      count(*) AS tokens,
      (array_agg(token_id ORDER BY token_id))[1:200] AS token_ids
    FROM new_rows
    WHERE lower(status::text) NOT IN ('detected', 'generating')
    GROUP BY 1
  LOOP
    PERFORM pg_notify(
      TG_ARGV[1]::text,
      CASE
        WHEN changed.tokens > 200 THEN json_build_object('status', changed.status, 'count', changed.tokens)
        ELSE json_build_object('status', changed.status, 'token_ids', changed.token_ids)
      END::text
    );
  END LOOP;
  RETURN NULL;
EXCEPTION
  -- A table that lost a column of ours must not lose its writers: the sweep's error, in a worker's log, says it louder.
  WHEN OTHERS THEN
    RAISE WARNING 'reactor.notify_inserted: %', SQLERRM;
    RETURN NULL;
END
$$;
