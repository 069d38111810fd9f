-- Switches a token to the fallback prompt: counts the rejection and writes a new intent to buy, before the create.
-- $1 id        uuid
-- $2 epoch     bigint
-- $3 worker    bigint
-- $4 attempts  integer  after counting the rejection
-- $5 error     text     why it was rejected
-- Returns the new seed and when it was written; nulls if another transaction has the row locked for now; no row if the
-- token was lost. Run again, it returns the same seed.
-- Leans on the primary key.
WITH held AS (
  SELECT {key} AS key
  FROM {table}
  WHERE {key} = $1::uuid
    AND status = {generating}
    AND generation_epoch = $2::bigint
    AND generation_worker = $3::bigint
  FOR NO KEY UPDATE SKIP LOCKED
),
censored AS (
  UPDATE {table}
  SET
    generation_censored = true,
    generation_attempts = $4::integer,
    generation_error = $5::text,
    generation_prediction_id = CASE WHEN generation_censored THEN generation_prediction_id END,
    generation_seed = CASE WHEN generation_censored THEN generation_seed ELSE floor(random() * 2^31)::integer END,
    generation_seeded_at = CASE WHEN generation_censored THEN generation_seeded_at ELSE now() END
  WHERE {key} = ANY (ARRAY(SELECT key FROM held))
  RETURNING generation_seed AS seed, generation_seeded_at AS seeded_at
)
SELECT seed, seeded_at
FROM censored
UNION ALL
SELECT NULL, NULL
FROM {table}
WHERE NOT EXISTS (SELECT FROM censored)
  AND {key} = $1::uuid
  AND status = {generating}
  AND generation_epoch = $2::bigint
  AND generation_worker = $3::bigint;
