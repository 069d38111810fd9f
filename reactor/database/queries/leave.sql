-- Leaves the watch to another worker, and tells the fleet as that commits; takes the quiet lock or lets it go.
-- $1 channel       text     the wake channel: both locks are named after it, as in the triggers
-- $2 bell_channel  text     heard by whoever has a free slot
-- $3 watching      boolean  whether this connection is on watch
-- $4 quiet         boolean  whether it holds the quiet lock
-- $5 hush          boolean  whether mints need not ring on this worker's account
-- $6 tokens        text     the tokens table, quoted and with its schema: a worker's role is one that may write its epoch
-- Returns whether it holds the quiet lock now; if it wanted to, and could not: ours, strangers and processes, as watch.sql.
-- A full NOTIFY queue would fail the commit, and cost the listener: then nobody is told, and the others soon try by
-- themselves.
WITH lock AS MATERIALIZED (
  SELECT CASE
    WHEN $4::boolean AND NOT $5::boolean THEN NOT pg_advisory_unlock(hashtextextended($1::text, 1))
    WHEN $5::boolean AND NOT $4::boolean THEN pg_try_advisory_lock(hashtextextended($1::text, 1))
    ELSE $4::boolean
  END AS quiet
)
SELECT
  quiet,
  CASE WHEN $3::boolean THEN pg_advisory_unlock(hashtextextended($1::text, 0)) END AS left_watch,
  CASE WHEN $3::boolean AND pg_notification_queue_usage() < 0.5 THEN pg_notify($2::text, '') END AS told,
  holders.ours,
  holders.strangers,
  holders.processes
FROM lock
CROSS JOIN LATERAL (
  SELECT
    coalesce(bool_or(able AND mode = 'ExclusiveLock'), false) AS ours,
    array_agg(coalesce(usename::text, '')) FILTER (WHERE NOT able) AS strangers,
    array_agg(pid) FILTER (WHERE NOT able) AS processes
  FROM pg_catalog.pg_locks AS held
  JOIN pg_catalog.pg_stat_activity AS holder USING (pid)
  CROSS JOIN LATERAL (
    SELECT coalesce(has_column_privilege(usesysid, $6::text, 'generation_epoch', 'UPDATE'), false) AS able
  ) AS role
  WHERE $5::boolean AND NOT quiet
    AND locktype = 'advisory'
    AND objsubid = 1
    AND granted
    AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
    AND (classid::bigint << 32) | objid::bigint = hashtextextended($1::text, 1)
) AS holders;
