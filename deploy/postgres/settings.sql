-- The settings of PostgreSQL that matter to the reactor. Run it once, as the owner of the database and of the table:
--   psql -v ON_ERROR_STOP=1 -f deploy/postgres/settings.sql DATABASE
-- Running it again changes nothing. New sessions get the settings; those that are open keep the old ones.
--
-- Run: tests/test_deploy.py, on an embedded PostgreSQL. Not run: on a managed PostgreSQL, which may refuse some of it.

-- A token is written three to five times within a minute, so its dead versions must go soon: a claim reads past those
-- at the head of its index. `reactor migrate` sets this for a table that it creates, not for one that was there before.
-- With the defaults a table of 1,000,000 rows is vacuumed after 200,000 dead rows; with these, after 10,500. And while
-- the dead rows lie in fewer than 2 % of the table's pages, a vacuum leaves the indexes alone by default. In a large
-- table the tokens of the last hours lie in fewer, so the index that claims read would grow for weeks.
ALTER TABLE tokens_s0 SET (
  fillfactor = 75,  -- room for a new version beside the old one, so that a renewed lease touches no index
  autovacuum_vacuum_scale_factor = 0.01,
  autovacuum_vacuum_threshold = 500,
  autovacuum_analyze_scale_factor = 0.02,
  autovacuum_vacuum_cost_delay = 0,
  vacuum_index_cleanup = on
);

DO $$
DECLARE
  setting text[];
BEGIN
  -- These are for the database's other sessions. The reactor sets shorter ones for its own, except behind a pooler.
  FOREACH setting SLICE 1 IN ARRAY ARRAY[
    -- A session that sits in a transaction keeps every dead version from being removed. If it listens, it also keeps
    -- the queue of NOTIFY from being trimmed: full, that queue fails the commits of the whole server.
    ['idle_in_transaction_session_timeout', '60s'],
    -- Without these, the server notices after two hours that a producer's machine is gone, and keeps its locks until
    -- then. With these, after 60 s. They do nothing on a unix socket.
    ['tcp_keepalives_idle', '30s'],
    ['tcp_keepalives_interval', '10s'],
    ['tcp_keepalives_count', '3'],
    -- A statement whose client is gone is ended, and with it the locks it waits for. Linux and some others have it.
    ['client_connection_check_interval', '10s']
  ]
  LOOP
    EXECUTE format('ALTER DATABASE %I SET %I = %L', current_database(), setting[1], setting[2]);
  END LOOP;
END
$$;

-- For the whole server, by its superuser. They are not run here:
--
-- Six connections for each worker, and those of everybody else. Needs a restart.
--   ALTER SYSTEM SET max_connections = 200;
-- A commit that waits for NOTIFY's lock is logged as "object 0 of class 1262 of database 0".
--   ALTER SYSTEM SET log_lock_waits = on;
--   SELECT pg_reload_conf();
