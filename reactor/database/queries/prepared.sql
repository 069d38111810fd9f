-- Tells whether transactions are prepared for a two-phase commit, or may be.
-- Returns one row: allowed (max_prepared_transactions); silenced, whether a role or a database has the setting
-- reactor.silent, without which such a transaction may not mint; count; and gid, owner and age (seconds) of the oldest.
SELECT
  current_setting('max_prepared_transactions')::integer AS allowed,
  EXISTS (
    SELECT FROM pg_catalog.pg_db_role_setting, unnest(setconfig) AS setting WHERE starts_with(setting, 'reactor.silent=')
  ) AS silenced,
  count(gid) AS count,
  (array_agg(left(gid, 100) ORDER BY prepared))[1] AS gid,
  (array_agg(owner::text ORDER BY prepared))[1] AS owner,
  extract(epoch FROM clock_timestamp() - min(prepared))::double precision AS age
FROM pg_catalog.pg_prepared_xacts
WHERE database = current_database();
