-- Takes over, in place, tokens whose holder cannot finish them: generating stays, the epoch rises, the lease is ours.
-- $1 slots          integer           tokens that can start now
-- $2 worker         bigint            the rescuer's key
-- $3 lease          double precision  seconds; one value for a fleet
-- $4 renewed_every  double precision  seconds between renewals; two more without one, and a holder is overdue
-- $5 held           uuid[]            what this worker knows that it holds
-- $6 own_keys       bigint[]          keys that this worker claimed under
-- $7 uptime         double precision  seconds that this worker has been running
-- $8 most_rescues   integer           after so many the token fails: it may be what kills them
-- Returns one row per token, as claim.sql does, with whether it failed and whose it was:
-- 'own' (a claim whose answer we never got), 'foreign' (left without a lease by another program), 'dead'.
-- Leans on the partial index WHERE status = 'generating'. Lease times are read from the heap, to keep renewals HOT.
--
-- The lease decides, the liveness lock only accelerates: a lock is lost with its connection while its holder lives, so
-- it counts only where the renewal is overdue too, and not within 10 s of a restart, when nobody has a lock.
WITH alive AS MATERIALIZED (
  SELECT (classid::bigint << 32) | objid::bigint AS worker
  FROM pg_catalog.pg_locks
  WHERE locktype = 'advisory'
    AND objsubid = 1
    AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
),
abandoned AS (
  SELECT
    {key} AS key,
    CASE
      WHEN generation_worker = ANY ($6::bigint[]) THEN 'own'
      WHEN generation_lease_ends_at IS NULL THEN 'foreign'
      ELSE 'dead'
    END AS owner,
    generation_rescues >= $8::integer AS often
  FROM {table}
  WHERE status = {generating}
    AND {key} <> ALL ($5::uuid[])
    AND (
      generation_worker = ANY ($6::bigint[])
      OR (generation_lease_ends_at IS NULL AND $7::double precision >= $3::double precision)
      OR (
        clock_timestamp() > pg_postmaster_start_time() + interval '10 seconds'
        AND (
          generation_lease_ends_at < clock_timestamp()
          OR (
            generation_worker > 0
            AND generation_lease_ends_at < clock_timestamp()
              + make_interval(secs => $3::double precision - $4::double precision - 2)
            AND generation_worker NOT IN (SELECT worker FROM alive)
          )
        )
      )
    )
  ORDER BY {key}
  LIMIT $1::integer
  FOR NO KEY UPDATE SKIP LOCKED
),
judged AS (
  SELECT key, owner, owner = 'dead' AND often AS hopeless
  FROM abandoned
),
taken AS (
  UPDATE {table} AS token
  SET
    status = CASE WHEN hopeless THEN {failed} ELSE {generating} END,
    generation_error = CASE WHEN hopeless THEN format('worker died %s times', $8::integer) ELSE generation_error END,
    generation_epoch = generation_epoch + 1,
    generation_worker = CASE WHEN NOT hopeless THEN $2::bigint END,
    generation_lease_ends_at = CASE
      WHEN NOT hopeless THEN clock_timestamp() + make_interval(secs => $3::double precision)
    END,
    generation_due_at = NULL,
    generation_attempts = coalesce(generation_attempts, 0),
    generation_rescues = generation_rescues + CASE WHEN owner = 'dead' AND NOT hopeless THEN 1 ELSE 0 END,
    generation_seed = coalesce(generation_seed, floor(random() * 2147483648)::integer),
    generation_seeded_at = CASE WHEN generation_seed IS NULL THEN now() ELSE coalesce(generation_seeded_at, now()) END
  FROM judged
  WHERE token.{key} = ANY (ARRAY(SELECT key FROM judged)) AND token.{key} = judged.key
  RETURNING
    token.{key} AS id,
    token_id,
    generation_epoch AS epoch,
    {prompt} AS prompt,
    generation_attempts AS attempts,
    generation_censored AS censored,
    generation_seed AS seed,
    generation_seeded_at AS seeded_at,
    generation_seeded_at < now() AS seed_was_set,
    generation_prediction_id AS prediction_id,
    hopeless AS failed,
    generation_error AS error,
    owner
)
SELECT
  id, token_id, epoch, prompt, attempts, censored, seed, seeded_at, seed_was_set, prediction_id, failed, error, owner
FROM taken
ORDER BY id;
