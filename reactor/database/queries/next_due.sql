-- Computes when a claim could next find something.
-- $1 create_interval  double precision  seconds between creates that the rate limit allows; 0: no limit
-- Returns seconds from now, 0 if a claim could find something now; no row if nothing waits for a known time.
-- Leans on the two partial indexes WHERE status = 'detected', each in its order. EXISTS would read the table from its
-- start if statistics say that most rows match, and all of it if they are out of date.
WITH fresh AS (
  SELECT 0 AS seconds
  FROM {table} AS token
  WHERE status = {detected} AND generation_due_at IS NULL
    AND {claimable}
  ORDER BY {order}, {key}
  LIMIT 1
),
retries AS (
  SELECT CASE
    WHEN isfinite(generation_due_at) THEN extract(epoch FROM generation_due_at - clock_timestamp())
    WHEN generation_due_at < now() THEN 0
  END AS seconds
  FROM {table} AS token
  WHERE status = {detected} AND generation_due_at IS NOT NULL
    AND {claimable}
  ORDER BY generation_due_at
  LIMIT 1
),
waiting AS MATERIALIZED (
  SELECT coalesce((SELECT seconds FROM fresh), (SELECT seconds FROM retries)) AS seconds
)
SELECT greatest(
  0,
  waiting.seconds,
  CASE WHEN isfinite(paused_until) THEN extract(epoch FROM paused_until - clock_timestamp()) END,
  extract(epoch FROM arrives_at - clock_timestamp()) + every - greatest(10, every)
)::double precision AS due_in
FROM waiting, reactor.intake
CROSS JOIN {parts/pace}
WHERE waiting.seconds IS NOT NULL
  AND (paused_until IS NULL OR paused_until < 'infinity');
