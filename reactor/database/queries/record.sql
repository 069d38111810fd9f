-- Writes the prediction ids of purchases down, before their results are there, and counts them against the day's budget.
-- $1 ids             key[]
-- $2 epochs          bigint[]  in the order of $1
-- $3 keys            bigint[]  worker keys, with the sign that they had at the claim (see leases.py), in the order of $1
-- $4 prediction_ids  text[]    in the order of $1
-- $5 seeds           integer[] that the predictions were bought with, in the order of $1
-- $6 budget          integer   creates of a UTC day; 0: no limit
-- Returns id and recorded; false: another transaction has the row locked for now. A token for which no row comes back was
-- lost, or switched to the fallback prompt. Run again, it does the same, and counts nothing again.
-- Leans on the primary key. The holder is compared as an expression, because with a plain status comparison the planner
-- estimates one row and picks a nested loop over all pairs.
-- A lost purchase is not counted here. The worker that made it learns of the loss within a few seconds, and settle.sql
-- counts it together with its entry in the history, so that it counts once. If that worker is killed before, the purchase
-- is neither counted nor in the history; only `reactor audit` finds it.
WITH bought AS (
  SELECT id, epoch, worker, prediction_id, seed
  FROM unnest($1::{key_type}[], $2::bigint[], $3::bigint[], $4::text[], $5::integer[])
    AS given (id, epoch, worker, prediction_id, seed)
),
held AS (
  SELECT
    {key} AS key,
    CASE WHEN status = {generating} THEN generation_worker END AS holder,
    generation_prediction_id AS prediction_id
  FROM {table} AS token
  WHERE {key} = ANY ($1::{key_type}[])
  ORDER BY {key}
  FOR NO KEY UPDATE SKIP LOCKED
),
recorded AS (
  UPDATE {table} AS token
  SET generation_prediction_id = bought.prediction_id
  FROM bought
  JOIN held ON held.key = bought.id AND held.holder = bought.worker
  WHERE {key} = bought.id
    AND token.generation_epoch = bought.epoch
    AND token.generation_seed = bought.seed
  RETURNING {key} AS key, held.prediction_id IS DISTINCT FROM bought.prediction_id AS is_new
),
purchases AS (
  SELECT key FROM recorded WHERE is_new
),
budget AS (
  SELECT $6::integer AS creates
),
{parts/spend}
SELECT bought.id, recorded.key IS NOT NULL AS recorded
FROM bought
LEFT JOIN recorded ON recorded.key = bought.id
WHERE recorded.key IS NOT NULL
  OR (
    SELECT
      status = {generating}
      AND generation_epoch = bought.epoch
      AND generation_worker = bought.worker
      AND generation_seed = bought.seed
    FROM {table} AS token
    WHERE {key} = bought.id
  );
