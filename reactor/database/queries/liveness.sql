-- Takes the lock that shows that this worker lives, on the listener's connection; it is released when that ends.
-- $1 worker  bigint  the worker's key, without a sign
-- $2 tokens  text    the tokens table, quoted and with its schema: a worker's role is one that may write its epoch
-- Returns taken; if not taken, strangers names the holders that are no workers, because any role may take the lock.
WITH life AS MATERIALIZED (
  SELECT pg_try_advisory_lock($1::bigint) AS taken
)
SELECT
  taken,
  CASE WHEN NOT taken THEN (
    SELECT string_agg(format('%s (process %s)', usename, pid), ', ')
    FROM pg_catalog.pg_locks AS held
    JOIN pg_catalog.pg_stat_activity AS holder USING (pid)
    WHERE locktype = 'advisory'
      AND objsubid = 1
      AND granted
      AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
      AND (classid::bigint << 32) | objid::bigint = $1::bigint
      AND has_column_privilege(usesysid, $2::text, 'generation_epoch', 'UPDATE') IS NOT TRUE
  ) END AS strangers
FROM life;
