-- Takes abandoned tokens over: their status stays generating, the epoch rises, the lease is ours.
-- $1 ids             key[]             from abandoned.sql
-- $2 epochs          bigint[]          in the order of $1, as the next two are
-- $3 leases_end_at   double precision[] as they were seen: a holder that has renewed since is not dead
-- $4 owners          text[]            own, foreign or dead
-- $5 worker          bigint            the rescuer's key; negative while its listener is not proven: see leases.py
-- $6 lease           double precision  seconds
-- $7 most_rescues    integer           after so many the token fails, because it may be what kills its workers
-- $8 history         text              what we tell of each attempt, see parts/told.sql; null: no entry in the history
-- Returns for each token taken the columns of parts/held.sql, rescues, failed, error (null unless it failed) and owner.
-- Leans on the primary key. Odd values in our columns count as in claim.sql, but an epoch at its end starts over from
-- the smallest. The status is compared within an expression, as in record.sql. The columns of `abandoned` have names that
-- no host's table has, because PROMPT_SQL may name a column without its table.
--
-- The attempt of a dead worker ends here, so its entry in the history is written here. What it has bought is known only
-- if the row names the prediction.
WITH seen AS (
  SELECT id, epoch, lease_ends_at, owner
  FROM unnest($1::{key_type}[], $2::bigint[], $3::double precision[], $4::text[]) AS given (id, epoch, lease_ends_at, owner)
),
abandoned AS (
  SELECT
    {key} AS abandoned_key,
    seen.owner AS abandoned_by,
    token.generation_epoch AS abandoned_epoch,
    token.generation_worker AS abandoned_worker,
    seen.owner = 'dead' AND greatest(0, token.generation_rescues) >= $7::integer AS is_hopeless
  FROM {table} AS token
  JOIN seen ON seen.id = {key}
    AND seen.epoch = CASE WHEN token.status = {generating} THEN token.generation_epoch END
  WHERE {key} = ANY ($1::{key_type}[])
    AND extract(epoch FROM token.generation_lease_ends_at)::double precision IS NOT DISTINCT FROM seen.lease_ends_at
  FOR NO KEY UPDATE OF token SKIP LOCKED
),
taken AS (
  UPDATE {table} AS token
  SET
    status = CASE WHEN is_hopeless THEN {failed} ELSE {generating} END,
    generation_error = CASE WHEN is_hopeless THEN left(format('worker died %s times', $7::integer), {longest_error}) ELSE generation_error END,
    generation_epoch = coalesce(nullif(generation_epoch, 9223372036854775807), -9223372036854775807) + 1,
    generation_worker = CASE WHEN NOT is_hopeless THEN $5::bigint END,
    generation_lease_ends_at = CASE
      WHEN NOT is_hopeless THEN clock_timestamp() + make_interval(secs => $6::double precision)
    END,
    generation_due_at = NULL,
    generation_attempts = least(1000, greatest(0, generation_attempts)),
    generation_rescues = greatest(0, generation_rescues) + CASE WHEN abandoned_by = 'dead' AND NOT is_hopeless THEN 1 ELSE 0 END,
    generation_seed = coalesce(generation_seed, floor(random() * 2^31)::integer),
    generation_seeded_at = {parts/seeded_at}
  FROM abandoned
  WHERE {key} = abandoned.abandoned_key
  RETURNING
    {parts/held},
    generation_rescues AS rescues,
    is_hopeless AS failed,
    CASE WHEN is_hopeless THEN generation_error END AS error,
    abandoned_by AS owner,
    {integral_number} AS number,
    abandoned_epoch,
    abandoned_worker,
    $8::text AS history
),
written AS (
  INSERT INTO {parts/attempts}
  SELECT
    {tokens_table}, id::text, number, abandoned_epoch, abandoned_worker, seed, prediction_id,
    CASE WHEN failed THEN 'failed' ELSE 'rescued' END,
    coalesce(error, 'its worker died'), NULL, CASE WHEN prediction_id IS NOT NULL THEN seeded_at END, told.ended_at,
    attempts + 1, taken.censored, CASE WHEN failed THEN 'PermanentError' END, told.model, NULL, NULL, NULL, NULL
  FROM taken
  CROSS JOIN {parts/told}
  WHERE owner = 'dead' AND history IS NOT NULL AND octet_length(id::text) <= 2000
)
SELECT
  id, token_id, epoch, prompt, attempts, censored, seed, seeded_at, seed_was_set, prediction_id, traceparent, rescues,
  failed, error, owner
FROM taken
ORDER BY id;
