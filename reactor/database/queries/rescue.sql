-- Takes abandoned tokens over: their status stays generating, the epoch rises, the lease is ours.
-- $1 ids             uuid[]            from abandoned.sql
-- $2 epochs          bigint[]          in the order of $1, as the next two are
-- $3 leases_end_at   double precision[] as they were seen: a holder that has renewed since is not dead
-- $4 owners          text[]            own, foreign or dead
-- $5 worker          bigint            the rescuer's key
-- $6 lease           double precision  seconds
-- $7 most_rescues    integer           after so many the token fails, because it may be what kills its workers
-- Returns for each token taken the columns of parts/held.sql, rescues, failed, error (null unless it failed) and owner.
-- Leans on the primary key. Odd values in our columns count as in claim.sql, but an epoch at its end starts over from
-- the smallest. The status is compared within an expression, as in record.sql.
WITH seen AS (
  SELECT id, epoch, lease_ends_at, owner
  FROM unnest($1::uuid[], $2::bigint[], $3::double precision[], $4::text[]) AS given (id, epoch, lease_ends_at, owner)
),
abandoned AS (
  SELECT token.{key} AS key, seen.owner, seen.owner = 'dead' AND greatest(0, token.generation_rescues) >= $7::integer AS hopeless
  FROM {table} AS token
  JOIN seen ON seen.id = token.{key}
    AND seen.epoch = CASE WHEN token.status = {generating} THEN token.generation_epoch END
  WHERE token.{key} = ANY ($1::uuid[])
    AND extract(epoch FROM token.generation_lease_ends_at)::double precision IS NOT DISTINCT FROM seen.lease_ends_at
  FOR NO KEY UPDATE OF token SKIP LOCKED
),
taken AS (
  UPDATE {table} AS token
  SET
    status = CASE WHEN hopeless THEN {failed} ELSE {generating} END,
    generation_error = CASE WHEN hopeless THEN format('worker died %s times', $7::integer) ELSE generation_error END,
    generation_epoch = coalesce(nullif(generation_epoch, 9223372036854775807), -9223372036854775807) + 1,
    generation_worker = CASE WHEN NOT hopeless THEN $5::bigint END,
    generation_lease_ends_at = CASE
      WHEN NOT hopeless THEN clock_timestamp() + make_interval(secs => $6::double precision)
    END,
    generation_due_at = NULL,
    generation_attempts = least(1000, greatest(0, generation_attempts)),
    generation_rescues = greatest(0, generation_rescues) + CASE WHEN owner = 'dead' AND NOT hopeless THEN 1 ELSE 0 END,
    generation_seed = coalesce(generation_seed, floor(random() * 2^31)::integer),
    generation_seeded_at = {parts/seeded_at}
  FROM abandoned
  WHERE token.{key} = abandoned.key
  RETURNING
    {parts/held},
    generation_rescues AS rescues,
    hopeless AS failed,
    CASE WHEN hopeless THEN generation_error END AS error,
    owner
)
SELECT
  id, token_id, epoch, prompt, attempts, censored, seed, seeded_at, seed_was_set, prediction_id, rescues, failed, error,
  owner
FROM taken
ORDER BY id;
