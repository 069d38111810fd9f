-- Writes down what was bought, before its result is there.
-- $1 ids             uuid[]
-- $2 epochs          bigint[]  in the order of $1
-- $3 keys            bigint[]  worker keys, in the order of $1
-- $4 prediction_ids  text[]    in the order of $1
-- Returns the ids that took it; the others were lost. Run again it does the same.
-- Leans on the primary key. Rows are locked in key order, as by a settle and a renewal, so that they cannot deadlock.
WITH bought AS (
  SELECT id, epoch, worker, prediction_id
  FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::text[]) AS given (id, epoch, worker, prediction_id)
),
held AS (
  SELECT token.{key} AS key
  FROM {table} AS token
  JOIN bought ON bought.id = token.{key}
  WHERE token.{key} = ANY ($1::uuid[])
    AND token.status = {generating}
    AND token.generation_epoch = bought.epoch
    AND token.generation_worker = bought.worker
  ORDER BY token.{key}
  FOR NO KEY UPDATE OF token
)
UPDATE {table} AS token
SET generation_prediction_id = bought.prediction_id
FROM bought
WHERE token.{key} = ANY (ARRAY(SELECT key FROM held)) AND token.{key} = bought.id
RETURNING token.{key} AS id;
