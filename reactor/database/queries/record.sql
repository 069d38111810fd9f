-- Writes the prediction ids of purchases down, before their results are there.
-- $1 ids             uuid[]
-- $2 epochs          bigint[]  in the order of $1
-- $3 keys            bigint[]  worker keys, in the order of $1
-- $4 prediction_ids  text[]    in the order of $1
-- $5 seeds           integer[] that the predictions were bought with, in the order of $1
-- Returns id and recorded; false: another transaction has the row locked for now. A token without a row was lost, or
-- was switched to the fallback prompt. Run again, it does the same.
-- Leans on the primary key. The holder is compared as an expression, because with a plain status comparison the planner
-- estimates one row and picks a nested loop over all pairs.
WITH bought AS (
  SELECT id, epoch, worker, prediction_id, seed
  FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::text[], $5::integer[])
    AS given (id, epoch, worker, prediction_id, seed)
),
held AS (
  SELECT {key} AS key, CASE WHEN status = {generating} THEN generation_worker END AS holder
  FROM {table}
  WHERE {key} = ANY ($1::uuid[])
  ORDER BY {key}
  FOR NO KEY UPDATE SKIP LOCKED
),
recorded AS (
  UPDATE {table} AS token
  SET generation_prediction_id = bought.prediction_id
  FROM bought
  JOIN held ON held.key = bought.id AND held.holder = bought.worker
  WHERE token.{key} = bought.id
    AND token.generation_epoch = bought.epoch
    AND token.generation_seed = bought.seed
  RETURNING token.{key} AS key
)
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
    FROM {table}
    WHERE {key} = bought.id
  );
