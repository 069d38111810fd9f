-- Reads how many dead versions of rows a table keeps, as the last statistics say.
-- $1 relation  text  the table, quoted and with its schema
-- Returns one row: live, dead, and vacuumed, the seconds since it was vacuumed last (null: never, or forgotten).
SELECT
  pg_stat_get_live_tuples(relation) AS live,
  pg_stat_get_dead_tuples(relation) AS dead,
  extract(epoch FROM clock_timestamp() - greatest(
    pg_stat_get_last_vacuum_time(relation), pg_stat_get_last_autovacuum_time(relation)
  ))::double precision AS vacuumed
FROM (SELECT to_regclass($1::text)::oid AS relation) AS meant;
