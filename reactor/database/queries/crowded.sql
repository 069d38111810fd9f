-- Tells whether the server or this database has few connections left: fewer than 3, or than a tenth.
-- Returns crowded. Connections reserved for superusers do not count as left. A role's own limit is ignored: reaching it
-- keeps no other role out. Every role can count the sessions; those whose kind is hidden count as clients'.
WITH sessions AS (
  SELECT
    count(*) AS of_server,
    count(*) FILTER (WHERE datname = current_database()) AS of_database
  FROM pg_catalog.pg_stat_activity
  WHERE datid IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend'
),
limits AS (
  SELECT
    current_setting('max_connections')::integer
      - current_setting('superuser_reserved_connections')::integer
      - coalesce(current_setting('reserved_connections', true)::integer, 0) AS of_server,
    nullif(datconnlimit, -1) AS of_database
  FROM pg_catalog.pg_database
  WHERE datname = current_database()
)
SELECT
  limits.of_server - sessions.of_server < greatest(3, limits.of_server / 10)
    OR coalesce(limits.of_database - sessions.of_database < greatest(3, limits.of_database / 10), false) AS crowded
FROM sessions, limits;
