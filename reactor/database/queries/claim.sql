-- Claims due retries (with a due time), then fresh tokens (without one) by mint order; no more than the gate lets through.
-- $1 create_interval  double precision  seconds between creates that the account's rate limit allows; 0: no limit
-- $2 slots            integer           tokens that can start now
-- $3 worker           bigint            the claimer's key; negative while its listener is not proven: see leases.py
-- $4 lease            double precision  seconds
-- Statements that start behind a token, or claim among given tokens, have one or two more: see TokensTable.query.
-- Returns one row per claimed token, in mint order. Every row repeats three facts of the statement: probe (what opens the
-- half-open gate that let the token through), limited (the gate let fewer through than were found), last_fresh.
-- Leans on the two partial indexes WHERE status = 'detected', and on the primary key. Retries are compared with now(),
-- because no index can be searched by the volatile clock_timestamp().
--
-- A role that may insert rows can write our columns. A token whose epoch cannot be raised is in neither index. Attempts
-- below 0 count as 0, and above 1000 (more than MAX_ATTEMPTS can be) as 1000, so that such a token can be claimed.
WITH {parts/gate},
due AS (
  SELECT {key} AS key
  FROM {table} AS token
  WHERE status = {detected} AND generation_due_at IS NOT NULL AND generation_due_at <= now()
    AND {claimable}
    {of_retries}
  ORDER BY generation_due_at, {key}
  LIMIT coalesce((SELECT slots FROM gate), 0)
  FOR NO KEY UPDATE SKIP LOCKED
),
fresh AS (
  SELECT {key} AS key, {order} AS position
  FROM {table} AS token
  WHERE status = {detected} AND generation_due_at IS NULL
    AND {claimable}
    {of_fresh}
  ORDER BY {order}, {key}
  LIMIT coalesce((SELECT slots FROM gate), 0) - CASE WHEN (SELECT half_open FROM gate) THEN 0 ELSE (SELECT count(*) FROM due) END
  FOR NO KEY UPDATE SKIP LOCKED
),
found AS (
  -- If half-open, a fresh token goes before a retry, so that the last probe's token, which failed, lets another try.
  SELECT key FROM due WHERE NOT ((SELECT half_open FROM gate) AND EXISTS (SELECT FROM fresh))
  UNION ALL
  SELECT key FROM fresh
),
{parts/admission},
claimed AS (
  UPDATE {table} AS token
  SET
    status = {generating},
    generation_epoch = generation_epoch + 1,
    generation_worker = $3::bigint,
    generation_lease_ends_at = clock_timestamp() + make_interval(secs => $4::double precision),
    generation_due_at = NULL,
    generation_attempts = CASE WHEN generation_due_at IS NULL THEN 0 ELSE least(1000, greatest(0, generation_attempts)) END,
    generation_rescues = CASE WHEN generation_due_at IS NULL THEN 0 ELSE greatest(0, generation_rescues) END,
    generation_censored = generation_due_at IS NOT NULL AND generation_censored,
    generation_error = CASE WHEN generation_due_at IS NOT NULL THEN generation_error END,
    generation_prediction_id = CASE WHEN generation_due_at IS NOT NULL THEN generation_prediction_id END,
    generation_seed = coalesce(CASE WHEN generation_due_at IS NOT NULL THEN generation_seed END, floor(random() * 2^31)::integer),
    generation_seeded_at = CASE WHEN generation_due_at IS NULL THEN now() ELSE {parts/seeded_at} END
  WHERE {key} = ANY (ARRAY(SELECT key FROM passed))
  RETURNING
    {parts/held},
    CASE WHEN generation_epoch = 1 AND isfinite({born})
      THEN greatest(0, extract(epoch FROM clock_timestamp() - {born})) END::double precision AS age,
    {order} AS position
)
SELECT
  id, token_id, epoch, prompt, attempts, censored, seed, seeded_at, seed_was_set, prediction_id, traceparent, age,
  (SELECT probe FROM admitted) AS probe,
  coalesce((SELECT tokens FROM admitted) < (SELECT count(*) FROM found), false) AS limited,
  (SELECT key FROM fresh WHERE fresh.position IS NOT NULL ORDER BY fresh.position DESC, key DESC LIMIT 1) AS last_fresh
FROM claimed
ORDER BY position, id;
