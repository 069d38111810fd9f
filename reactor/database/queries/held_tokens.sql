-- Reads the tokens that workers hold.
-- $1 rows  integer  at most
-- Returns token_id, worker (text; without the sign that says whether its listener is proven; null: another program),
-- attempts, held_for (seconds since its purchase was announced; null: unknown), lease_ends_in (seconds, at most a day
-- away; null: no lease).
-- Leans on the partial index WHERE status = 'generating'. The limit is a subquery, as in gauges.sql.
SELECT
  left({number}::text, 100) AS token_id,
  ltrim(token.generation_worker::text, '-') AS worker,
  token.generation_attempts AS attempts,
  greatest(0, extract(epoch FROM clock_timestamp() - CASE
    WHEN token.generation_seeded_at BETWEEN clock_timestamp() - interval '1 year' AND clock_timestamp() + interval '1 hour'
      THEN token.generation_seeded_at
  END))::double precision AS held_for,
  extract(epoch FROM least(
    greatest(token.generation_lease_ends_at, clock_timestamp() - interval '1 day'),
    clock_timestamp() + interval '1 day'
  ) - CASE WHEN token.generation_lease_ends_at IS NOT NULL THEN clock_timestamp() END)::double precision AS lease_ends_in
FROM {table} AS token
WHERE status = {generating}
ORDER BY {key}
LIMIT (SELECT $1::integer);
