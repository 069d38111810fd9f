-- Counts the workers connected to this database: each has one listener.
-- $1 name  text  the listener's application_name
-- Returns workers.
SELECT count(*) AS workers
FROM pg_catalog.pg_stat_activity
WHERE datname = current_database() AND application_name = $1::text;
