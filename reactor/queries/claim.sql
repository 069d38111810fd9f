-- Claims tokens: due retries first, then fresh ones by mint order; never more than the gate lets through.
-- $1 slots             integer           tokens that can start now
-- $2 worker            bigint            the claimer's key
-- $3 lease             double precision  seconds
-- $4 create_interval   double precision  seconds between creates that the account's rate limit allows; 0: no limit
-- Returns one row per claimed token, in mint order: what an attempt needs.
-- Leans on the two partial indexes WHERE status = 'detected', retries and fresh.
--
-- The gate's row is locked only where tokens were found and the gate has something to write: half-open it moves on by
-- pause_seconds, so that of all workers one gets one token per interval; a rate limit books the creates (GCRA, a
-- burst of ten seconds' worth). A claim that loses that race to a closing gate takes nothing.
WITH gate AS (
  SELECT
    paused_until IS NOT NULL AS half_open,
    CASE
      WHEN paused_until IS NOT NULL THEN least($1::integer, 1)
      WHEN $4::double precision <= 0 THEN $1::integer
      ELSE least($1::integer, greatest(0, floor(
        (greatest(10, $4::double precision) - greatest(0, extract(epoch FROM arrival_at - clock_timestamp()))) / $4::double precision + 0.001
      )))
    END::integer AS room
  FROM reactor.intake
  WHERE paused_until IS NULL OR paused_until <= clock_timestamp()
),
retries AS (
  SELECT {key} AS key
  FROM {table}
  WHERE status = {detected} AND generation_due_at IS NOT NULL AND generation_due_at <= clock_timestamp()
  ORDER BY generation_due_at
  LIMIT coalesce((SELECT room FROM gate), 0)
  FOR NO KEY UPDATE SKIP LOCKED
),
fresh AS (
  SELECT {key} AS key
  FROM {table}
  WHERE status = {detected} AND generation_due_at IS NULL
  ORDER BY {order}, {key}
  LIMIT coalesce((SELECT room FROM gate), 0) - (SELECT count(*) FROM retries)
  FOR NO KEY UPDATE SKIP LOCKED
),
found AS (
  SELECT key FROM retries
  UNION ALL
  SELECT key FROM fresh
),
admitted AS (
  UPDATE reactor.intake
  SET
    paused_until = clock_timestamp() + make_interval(secs => CASE WHEN paused_until IS NULL THEN NULL ELSE pause_seconds END),
    arrival_at = greatest(arrival_at, clock_timestamp()) + make_interval(secs => $4::double precision * (SELECT count(*) FROM found))
  WHERE EXISTS (SELECT FROM found)
    AND ($4::double precision > 0 OR (SELECT half_open FROM gate))
    AND (paused_until IS NULL OR paused_until <= clock_timestamp())
  RETURNING 1
),
claimed AS (
  UPDATE {table} AS token
  SET
    status = {generating},
    generation_epoch = generation_epoch + 1,
    generation_worker = $2::bigint,
    generation_lease_ends_at = clock_timestamp() + make_interval(secs => $3::double precision),
    generation_due_at = NULL,
    generation_attempts = CASE WHEN generation_due_at IS NULL THEN 0 ELSE generation_attempts END,
    generation_rescues = CASE WHEN generation_due_at IS NULL THEN 0 ELSE generation_rescues END,
    generation_censored = generation_due_at IS NOT NULL AND generation_censored,
    generation_error = CASE WHEN generation_due_at IS NOT NULL THEN generation_error END,
    generation_prediction_id = CASE WHEN generation_due_at IS NOT NULL THEN generation_prediction_id END,
    generation_seed = CASE
      WHEN generation_due_at IS NOT NULL AND generation_seed IS NOT NULL THEN generation_seed
      ELSE floor(random() * 2147483648)::integer
    END,
    generation_seeded_at = CASE
      WHEN generation_due_at IS NOT NULL AND generation_seed IS NOT NULL THEN generation_seeded_at
      ELSE now()
    END
  WHERE {key} = ANY (ARRAY(
    SELECT key
    FROM found
    WHERE EXISTS (SELECT FROM admitted) OR NOT ($4::double precision > 0 OR (SELECT half_open FROM gate))
  ))
  RETURNING
    {key} AS id,
    token_id,
    generation_epoch AS epoch,
    {prompt} AS prompt,
    generation_attempts AS attempts,
    generation_censored AS censored,
    generation_seed AS seed,
    generation_seeded_at AS seeded_at,
    generation_seeded_at < now() AS seed_was_set,
    generation_prediction_id AS prediction_id,
    CASE WHEN generation_epoch = 1 THEN extract(epoch FROM clock_timestamp() - created_at)::double precision END AS age,
    {order} AS position
)
SELECT
  id, token_id, epoch, prompt, attempts, censored, seed, seeded_at, seed_was_set, prediction_id, age,
  (SELECT half_open FROM gate) AS probe
FROM claimed
ORDER BY position, id;
