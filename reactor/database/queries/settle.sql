-- Settles any number of tokens at once, each fenced by id, status, epoch and worker, and writes their history.
-- $1 ids             key[]
-- $2 epochs          bigint[]            this and all that follow are in the order of $1
-- $3 keys            bigint[]            worker keys, with the sign that they had at the claim: see leases.py
-- $4 statuses        text[]              uploading, failed or detected
-- $5 image_urls      text[]              if uploading
-- $6 errors          text[]              null: keep the last one, except that success clears it
-- $7 prediction_ids  text[]              null: keep the recorded one
-- $8 attempts        integer[]           counted so far
-- $9 due_in          double precision[]  seconds; if detected
-- $10 purchases_over boolean[]           forget seed and prediction id: the next attempt buys anew
-- $11 seeds          integer[]           that the outcomes were reached with
-- $12 histories      text[]              what the attempts tell, see parts/told.sql; null: no entry in the history
-- $13 recorded       boolean[]         whether the row has named the prediction, so that it was counted then
-- $14 budget         integer           creates of a UTC day; 0: no limit
-- Returns id, epoch and answer: won; already (it was written before, but the answer never reached us); lost; locked (by
-- another transaction, for now).
-- Leans on the primary key, and for a token that was lost on the history's index of keys. The holder is compared as an
-- expression, because with a plain status comparison the planner estimates one row and picks a nested loop over all
-- pairs. A locked row delays no other: it is skipped, and its answer comes from the snapshot.
-- If the row has another seed by now, the token was switched to the fallback prompt and the answer never reached us.
-- Then attempts and purchase belong to the new intent, and stay.
--
-- An outcome that is won gets its entry in the history, and one that is lost too, because something may have been bought
-- for it. A repeat adds none. If a rescue has ended the attempt, it has an entry already, and only its purchase gets one.
--
-- A lost purchase counts against the day's budget if it was never recorded, and no holder of the token will find it: its
-- seed is not the row's any more, or the row names another prediction, or is settled. If another transaction has the row
-- locked, the snapshot tells that. What an entry of the history names was counted before, so a repeat does not count it
-- again. Without a history, or if the answer of record.sql was lost, it may count again: too many rather than too few.
WITH outcomes AS (
  SELECT
    id, epoch, worker, status, image_url, left(error, {longest_error}) AS error, prediction_id, attempts, due_in,
    purchase_over, seed, history, recorded
  FROM unnest(
    $1::{key_type}[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[],
    $8::integer[], $9::double precision[], $10::boolean[], $11::integer[], $12::text[], $13::boolean[]
  ) AS given (
    id, epoch, worker, status, image_url, error, prediction_id, attempts, due_in,
    purchase_over, seed, history, recorded
  )
),
held AS (
  SELECT
    {key} AS key,
    CASE WHEN status = {generating} THEN generation_worker END AS holder,
    generation_epoch AS epoch,
    generation_worker AS worker,
    generation_seed AS seed,
    generation_attempts AS attempts,
    generation_error AS error,
    generation_seeded_at AS seeded_at,
    generation_prediction_id AS prediction_id,
    status = {generating} OR generation_due_at IS NOT NULL AS goes_on,
    {integral_number} AS number,
    image_url
  FROM {table} AS token
  WHERE {key} = ANY ($1::{key_type}[])
  ORDER BY {key}
  FOR NO KEY UPDATE SKIP LOCKED
),
won AS (
  UPDATE {table} AS token
  SET
    status = CASE outcomes.status
      WHEN 'uploading' THEN {uploading}
      WHEN 'failed' THEN {failed}
      ELSE {detected}
    END,
    image_url = coalesce(outcomes.image_url, token.image_url),
    generation_attempts = CASE
      WHEN token.generation_seed = outcomes.seed THEN outcomes.attempts
      ELSE token.generation_attempts
    END,
    generation_error = CASE
      WHEN outcomes.status = 'uploading' THEN NULL
      ELSE coalesce(outcomes.error, token.generation_error)
    END,
    generation_due_at = CASE
      WHEN outcomes.status = 'detected' THEN clock_timestamp() + make_interval(secs => outcomes.due_in)
    END,
    generation_lease_ends_at = NULL,
    generation_worker = NULL,
    generation_seed = CASE
      WHEN token.generation_seed = outcomes.seed AND outcomes.purchase_over THEN NULL
      ELSE token.generation_seed
    END,
    generation_seeded_at = CASE
      WHEN token.generation_seed = outcomes.seed AND outcomes.purchase_over THEN NULL
      ELSE token.generation_seeded_at
    END,
    generation_prediction_id = CASE
      WHEN token.generation_seed <> outcomes.seed THEN token.generation_prediction_id
      WHEN NOT outcomes.purchase_over THEN coalesce(outcomes.prediction_id, token.generation_prediction_id)
    END
  FROM outcomes
  JOIN held ON held.key = outcomes.id AND held.holder = outcomes.worker
  WHERE {key} = outcomes.id
    AND token.generation_epoch = outcomes.epoch
  RETURNING
    {key} AS key,
    token.generation_epoch AS epoch,
    held.seed = outcomes.seed AND outcomes.prediction_id <> coalesce(held.prediction_id, '') AS is_new
),
answered AS (
  SELECT
    outcomes.id,
    outcomes.epoch,
    outcomes.worker,
    outcomes.seed,
    outcomes.prediction_id,
    outcomes.error,
    outcomes.history,
    outcomes.recorded,
    held.number,
    held.key IS NOT NULL AS is_held,
    held.seed = outcomes.seed
      AND (held.prediction_id = outcomes.prediction_id OR held.prediction_id IS NULL AND held.goes_on) AS is_found,
    CASE WHEN held.seed = outcomes.seed AND outcomes.prediction_id IS NOT NULL THEN held.seeded_at END AS seeded_at,
    CASE
      WHEN won.key IS NOT NULL THEN 'won'
      WHEN held.key IS NULL
        AND outcomes.epoch = (SELECT generation_epoch FROM {table} AS token WHERE {key} = outcomes.id)
        THEN 'locked'
      WHEN held.epoch = outcomes.epoch
        AND held.worker IS NULL
        AND (held.attempts = outcomes.attempts OR held.seed <> outcomes.seed)
        AND (outcomes.image_url IS NULL OR held.image_url = outcomes.image_url)
        AND (outcomes.status <> 'failed' OR held.error = outcomes.error)
        THEN 'already'
      ELSE 'lost'
    END AS answer
  FROM outcomes
  LEFT JOIN won ON won.key = outcomes.id AND won.epoch = outcomes.epoch
  LEFT JOIN held ON held.key = outcomes.id
),
written AS (
  INSERT INTO {parts/attempts}
  SELECT
    {tokens_table}, id::text, number, epoch, worker, seed, prediction_id,
    CASE answer WHEN 'won' THEN told.outcome ELSE 'lost' END,
    error, told.claimed_at, coalesce(told.bought_at, seeded_at), told.ended_at,
    told.attempt, told.censored, told.error_type, told.model, told.predict_seconds, told.images, told.cost, told.web_url
  FROM answered
  CROSS JOIN {parts/told}
  WHERE history IS NOT NULL
    AND octet_length(id::text) <= 2000
    AND (
      answer = 'won'
      OR answer = 'lost'
      AND NOT EXISTS (
        SELECT
        FROM reactor.attempts AS entry
        WHERE entry.key = answered.id::text
          AND entry.tokens_table = {tokens_table}
          AND entry.epoch = answered.epoch
          AND (entry.seed = answered.seed OR answered.prediction_id IS NULL)
          AND (entry.outcome <> 'rescued' OR answered.prediction_id IS NULL)
      )
    )
),
budget AS (
  SELECT $14::integer AS creates
),
dropped AS (
  SELECT DISTINCT id, prediction_id
  FROM answered
  -- With LIMIT a subquery is looked up by its index. NOT EXISTS might be hashed, which reads the whole history.
  WHERE answer = 'lost'
    AND prediction_id IS NOT NULL
    AND NOT recorded
    AND (SELECT creates FROM budget) > 0
    AND CASE
      WHEN is_held THEN is_found
      ELSE (
        SELECT
          generation_seed = answered.seed
          AND (
            generation_prediction_id = answered.prediction_id
            OR generation_prediction_id IS NULL AND (status = {generating} OR generation_due_at IS NOT NULL)
          )
        FROM {table} AS token
        WHERE {key} = answered.id
        LIMIT 1
      )
    END IS NOT TRUE
    AND (
      SELECT true
      FROM reactor.attempts AS entry
      WHERE entry.key = answered.id::text
        AND entry.tokens_table = {tokens_table}
        AND entry.prediction_id = answered.prediction_id
      LIMIT 1
    ) IS NULL
),
purchases AS (
  SELECT key FROM won WHERE is_new
  UNION ALL
  SELECT id FROM dropped
),
{parts/spend}
SELECT id, epoch, answer
FROM answered;
