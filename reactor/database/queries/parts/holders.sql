-- Who holds an advisory lock that this session was refused: an item of FROM, beside a row `lock`.
-- lock.key: the lock; lock.tokens: the tokens table, quoted and with its schema; lock.refused: whether to look at all.
-- Gives ours, whether a worker holds it; strangers, the roles of its other holders, because any role may take it; and
-- processes, in the same order. A worker's role is one that may write the epoch.
LATERAL (
  SELECT
    coalesce(bool_or(able AND mode = 'ExclusiveLock'), false) AS ours,
    array_agg(coalesce(usename::text, '')) FILTER (WHERE NOT able) AS strangers,
    array_agg(pid) FILTER (WHERE NOT able) AS processes
  FROM pg_catalog.pg_locks AS held
  JOIN pg_catalog.pg_stat_activity AS holder USING (pid)
  CROSS JOIN LATERAL (
    SELECT coalesce(has_column_privilege(usesysid, lock.tokens, 'generation_epoch', 'UPDATE'), false) AS able
  ) AS role
  WHERE lock.refused
    AND locktype = 'advisory'
    AND objsubid = 1
    AND granted
    AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
    AND (classid::bigint << 32) | objid::bigint = lock.key
) AS holders
