-- Finds the oldest open transaction of this database, which keeps vacuum from removing the dead versions of rows.
-- Returns one row: pid, role, application and age (seconds) of the session; nulls if no transaction is open that our role
-- may see; hidden, the number of other sessions of which it may not; and slot, a replication slot without a client that
-- keeps rows too.
SELECT
  (array_agg(pid ORDER BY xact_start) FILTER (WHERE xact_start IS NOT NULL))[1] AS pid,
  (array_agg(usename::text ORDER BY xact_start) FILTER (WHERE xact_start IS NOT NULL))[1] AS role,
  (array_agg(left(application_name, 100) ORDER BY xact_start) FILTER (WHERE xact_start IS NOT NULL))[1] AS application,
  extract(epoch FROM clock_timestamp() - min(xact_start))::double precision AS age,
  count(*) FILTER (WHERE query = '<insufficient privilege>') AS hidden,
  (
    SELECT slot_name::text
    FROM pg_catalog.pg_replication_slots
    WHERE NOT active AND (xmin IS NOT NULL OR catalog_xmin IS NOT NULL)
    ORDER BY greatest(age(xmin), age(catalog_xmin)) DESC
    LIMIT 1
  ) AS slot
FROM pg_catalog.pg_stat_activity
WHERE pid <> pg_backend_pid()
  AND (datname = current_database() OR backend_type = 'walsender');
