-- Counts the workers connected to this database, and those of them that hear mints.
-- $1 listener  text  application_name of a worker's connection that listens
-- $2 claims    text  of the one that claims
-- Returns workers, listening.
SELECT
  greatest(count(*) FILTER (WHERE application_name = $1::text), count(*) FILTER (WHERE application_name = $2::text))
    AS workers,
  count(*) FILTER (WHERE application_name = $1::text) AS listening
FROM pg_catalog.pg_stat_activity
WHERE datname = current_database() AND application_name IN ($1::text, $2::text);
