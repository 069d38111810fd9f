-- Switches a token to the fallback prompt: counts the rejection and writes a new intent to buy, before the create.
-- $1 id        key
-- $2 epoch     bigint
-- $3 worker    bigint   with the sign that it had at the claim: see leases.py
-- $4 attempts  integer  after counting the rejection
-- $5 error     text     why it was rejected
-- $6 prediction_id  text  the prediction that was rejected
-- $7 history   text     what the attempt tells of it, see parts/told.sql; null: no entry in the history
-- $8 budget    integer  creates of a UTC day; 0: no limit
-- Returns the new seed, when it was written, and spent (the budget allows no more creates). All null: another transaction
-- has the row locked for now. No row: the token was lost. Run again, it returns the same seed, and adds no entry.
-- Leans on the primary key.
WITH held AS (
  SELECT
    {key} AS key,
    {integral_number} AS number,
    generation_censored AS known,
    generation_seed AS seed,
    generation_seeded_at AS seeded_at,
    generation_prediction_id AS prediction_id,
    $7::text AS history
  FROM {table} AS token
  WHERE {key} = $1::{key_type}
    AND status = {generating}
    AND generation_epoch = $2::bigint
    AND generation_worker = $3::bigint
  FOR NO KEY UPDATE SKIP LOCKED
),
censored AS (
  UPDATE {table} AS token
  SET
    generation_censored = true,
    generation_attempts = $4::integer,
    generation_error = left($5::text, {longest_error}),
    generation_prediction_id = CASE WHEN generation_censored THEN generation_prediction_id END,
    generation_seed = CASE WHEN generation_censored THEN generation_seed ELSE floor(random() * 2^31)::integer END,
    generation_seeded_at = CASE WHEN generation_censored THEN generation_seeded_at ELSE now() END
  WHERE {key} = ANY (ARRAY(SELECT key FROM held))
  RETURNING generation_seed AS seed, generation_seeded_at AS seeded_at
),
written AS (
  INSERT INTO {parts/attempts}
  SELECT
    {tokens_table}, key::text, number, $2::bigint, $3::bigint, seed, $6::text, 'rejected',
    left($5::text, {longest_error}), told.claimed_at, coalesce(told.bought_at, seeded_at), told.ended_at,
    told.attempt, told.censored, told.error_type, told.model, told.predict_seconds, told.images, told.cost, told.web_url
  FROM held
  CROSS JOIN {parts/told}
  WHERE NOT known AND history IS NOT NULL AND octet_length(key::text) <= 2000
),
purchases AS (
  SELECT key FROM held WHERE NOT known AND $6::text <> coalesce(prediction_id, '')
),
budget AS (
  SELECT $8::integer AS creates
),
{parts/spend}
SELECT
  seed,
  seeded_at,
  coalesce((SELECT pauses FROM counted), false) OR EXISTS (
    SELECT
    FROM reactor.intake
    WHERE budget_closed
      AND paused_until > clock_timestamp()
      AND paused_until >= (budget_day + 1)::timestamp AT TIME ZONE 'UTC'
  ) AS spent
FROM censored
UNION ALL
SELECT NULL, NULL, NULL
FROM {table} AS token
WHERE NOT EXISTS (SELECT FROM censored)
  AND {key} = $1::{key_type}
  AND status = {generating}
  AND generation_epoch = $2::bigint
  AND generation_worker = $3::bigint;
