-- Counts the sessions of this server that wait at their commit for the lock that NOTIFY takes.
-- Returns one row: waiting; pid, the process that holds the lock (null: nobody); and logged, whether the server logs
-- waits for locks.
-- In pg_locks it is object 0 of class 1262 (pg_database) of database 0. It is held for the end of a commit only.
SELECT
  count(*) FILTER (WHERE NOT granted) AS waiting,
  min(pid) FILTER (WHERE granted) AS pid,
  current_setting('log_lock_waits')::boolean AS logged
FROM pg_catalog.pg_locks
WHERE locktype = 'object' AND database = 0 AND classid = 'pg_catalog.pg_database'::regclass AND objid = 0;
