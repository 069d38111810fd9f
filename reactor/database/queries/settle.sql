-- Settles any number of tokens at once, each fenced by id, status, epoch and worker.
-- $1 ids             uuid[]
-- $2 epochs          bigint[]            this and all that follow are in the order of $1
-- $3 keys            bigint[]            worker keys
-- $4 statuses        text[]              uploading, failed or detected
-- $5 image_urls      text[]              if uploading
-- $6 errors          text[]              null: keep the last one, except that success clears it
-- $7 prediction_ids  text[]              null: keep the recorded one
-- $8 attempts        integer[]           counted so far
-- $9 due_in          double precision[]  seconds; if detected
-- $10 purchases_over boolean[]           forget seed and prediction id: the next attempt buys anew
-- $11 seeds          integer[]           that the outcomes were reached with
-- Returns id, epoch and answer: won; already (it was written before, but the answer never reached us); lost; locked (by
-- another transaction, for now).
-- Leans on the primary key. The holder is compared as an expression, because with a plain status comparison the planner
-- estimates one row and picks a nested loop over all pairs. A locked row delays no other: it is skipped, and its answer
-- comes from the snapshot.
-- If the row has another seed by now, the token was switched to the fallback prompt and the answer never reached us.
-- Then attempts and purchase belong to the new intent, and stay.
WITH outcomes AS (
  SELECT id, epoch, worker, status, image_url, error, prediction_id, attempts, due_in, purchase_over, seed
  FROM unnest(
    $1::uuid[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[],
    $8::integer[], $9::double precision[], $10::boolean[], $11::integer[]
  ) AS given (id, epoch, worker, status, image_url, error, prediction_id, attempts, due_in, purchase_over, seed)
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
    image_url
  FROM {table}
  WHERE {key} = ANY ($1::uuid[])
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
  WHERE token.{key} = outcomes.id
    AND token.generation_epoch = outcomes.epoch
  RETURNING token.{key} AS key, token.generation_epoch AS epoch
)
SELECT
  outcomes.id,
  outcomes.epoch,
  CASE
    WHEN won.key IS NOT NULL THEN 'won'
    WHEN held.key IS NULL
      AND outcomes.epoch = (SELECT generation_epoch FROM {table} WHERE {key} = outcomes.id)
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
LEFT JOIN held ON held.key = outcomes.id;
