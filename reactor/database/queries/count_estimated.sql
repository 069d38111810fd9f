-- Estimates the number of tokens by status, from the statistics of the last ANALYZE.
-- $1 schema  text  of the tokens table
-- $2 name    text
-- Returns status (lower case; a status that we do not know is other) and tokens; no row if there are no statistics.
-- Leans on the catalogue's own indexes.
SELECT coalesce(known.status, 'other') AS status, sum(common.frequency * class.reltuples)::bigint AS tokens
FROM pg_catalog.pg_stats AS statistics
JOIN pg_catalog.pg_namespace AS home ON home.nspname = statistics.schemaname
JOIN pg_catalog.pg_class AS class ON class.relnamespace = home.oid AND class.relname = statistics.tablename
CROSS JOIN LATERAL unnest(most_common_vals::text::text[], most_common_freqs) AS common (value, frequency)
LEFT JOIN unnest(ARRAY['detected', 'generating', 'uploading', 'ready', 'revealed', 'failed']) AS known (status)
  ON known.status = lower(left(common.value, 63) COLLATE "C")
WHERE schemaname = $1::text AND tablename = $2::text AND attname = 'status' AND class.reltuples > 0
GROUP BY 1;
