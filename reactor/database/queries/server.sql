-- Reads facts about the server, and about the session as it was opened.
-- Returns one row: pid (of the process that answers), role, database, version (as 180001), encoding, in_recovery,
-- read_only, synchronous_commit, may_migrate (whether this role may change what all tables share), and now (seconds
-- since 1970).
SELECT
  pg_backend_pid() AS pid,
  current_user::text AS role,
  current_database()::text AS database,
  current_setting('server_version_num')::integer AS version,
  current_setting('server_encoding') AS encoding,
  pg_is_in_recovery() AS in_recovery,
  current_setting('transaction_read_only')::boolean AS read_only,
  current_setting('synchronous_commit') AS synchronous_commit,
  coalesce(
    has_schema_privilege((SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'reactor'), 'CREATE'),
    has_database_privilege(current_database(), 'CREATE')
  ) AS may_migrate,
  extract(epoch FROM clock_timestamp())::double precision AS now;
