-- Names the roles that hold the lock of migrations and may not migrate: any role may take it.
-- $1 lock  bigint
-- Returns strangers: the roles and their processes; null if there are none.
SELECT string_agg(format('%s (process %s)', usename, pid), ', ') AS strangers
FROM pg_catalog.pg_locks
JOIN pg_catalog.pg_stat_activity USING (pid)
WHERE locktype = 'advisory'
  AND objsubid = 1
  AND granted
  AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
  AND (classid::bigint << 32) | objid::bigint = $1::bigint
  AND has_database_privilege(usesysid, current_database(), 'CREATE') IS NOT TRUE;
