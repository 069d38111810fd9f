-- Goes on watch, on the connection that listens; whoever is on watch makes mints ring, and answers.
-- $1 channel  text     the wake channel: both locks are named after it, as in the triggers
-- $2 quiet    boolean  whether this connection holds the quiet lock, to be let go
-- $3 tokens   text     the tokens table, quoted and with its schema: a worker's role is one that may write its epoch
-- Returns upto: a transaction id above those of all that may have found nobody on watch; null where somebody else is.
-- Then ours tells whether a worker is. Strangers and processes name the others that hold the lock, because any role may
-- take it: their roles, and a process of each in the same place.
-- The id is taken after the lock. It costs one of four billion, and no flush: nothing else is written.
WITH watch AS MATERIALIZED (
  SELECT pg_try_advisory_lock(hashtextextended($1::text, 0)) AS taken
)
SELECT
  CASE WHEN taken THEN pg_current_xact_id()::text::bigint END AS upto,
  CASE WHEN $2::boolean THEN pg_advisory_unlock(hashtextextended($1::text, 1)) END AS let_go,
  holders.ours,
  holders.strangers,
  holders.processes
FROM watch
CROSS JOIN LATERAL (
  SELECT
    coalesce(bool_or(able AND mode = 'ExclusiveLock'), false) AS ours,
    array_agg(coalesce(usename::text, '')) FILTER (WHERE NOT able) AS strangers,
    array_agg(pid) FILTER (WHERE NOT able) AS processes
  FROM pg_catalog.pg_locks AS held
  JOIN pg_catalog.pg_stat_activity AS holder USING (pid)
  CROSS JOIN LATERAL (
    SELECT coalesce(has_column_privilege(usesysid, $3::text, 'generation_epoch', 'UPDATE'), false) AS able
  ) AS role
  WHERE NOT taken
    AND locktype = 'advisory'
    AND objsubid = 1
    AND granted
    AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
    AND (classid::bigint << 32) | objid::bigint = hashtextextended($1::text, 0)
) AS holders;
