-- Counts the workers connected to this database, and those of them that hear mints.
-- $1 listener  text  application_name of a worker's connection that listens
-- $2 claims    text  application_name of the connection that claims
-- Returns workers, listening.
-- Any session can take our application_name. It counts only if its role may write the epoch, as a worker's may. A
-- listener without an advisory lock is not proven to hear.
WITH ours AS MATERIALIZED (
  SELECT pid, application_name
  FROM pg_catalog.pg_stat_activity
  WHERE datname = current_database()
    AND application_name IN ($1::text, $2::text)
    AND has_column_privilege(usesysid, {relation}, 'generation_epoch', 'UPDATE')
)
SELECT
  greatest(count(*) FILTER (WHERE application_name = $1::text), count(*) FILTER (WHERE application_name = $2::text))
    AS workers,
  count(*) FILTER (
    WHERE application_name = $1::text
      AND pid IN (SELECT pid FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND granted AND mode = 'ExclusiveLock')
  ) AS listening
FROM ours;
