-- Begins the next tokens anew whose image is gone unused. Each keeps its seed, so a pinned model gives the same picture.
-- $1 begin_at  text              see parts/expired.sql, as all up to $6
-- $2 rows      integer           uploading tokens to look at
-- $3 matching  text              see parts/matches.sql; null: any
-- $4 since     double precision  seconds; null: any
-- $5 begin     key
-- $6 kept      double precision  seconds
-- $7 history   boolean           whether entries of the history are written
-- Returns one row: retried, how many were begun anew; locked, how many another transaction has locked; and next_at and
-- next, where the next step begins, null at the end.
-- Leans on the partial index WHERE status = 'uploading', on the primary key, and on the history's index of keys.
--
-- A token that the next stage takes meanwhile is left alone, because its status is compared again under the lock. With a
-- due time, the claim keeps the seed. The seed is as old as this statement, so a look for what was bought with it passes
-- over the prediction whose image is gone. The entry in the history explains the second purchase of the seed; what the
-- image cost, and when it was bought, is as the entry of its success says.
WITH {parts/expired},
free AS (
  SELECT
    {key} AS key,
    {integral_number} AS number,
    generation_epoch AS epoch,
    generation_seed AS seed,
    left(generation_prediction_id::text, 200) AS prediction_id,
    generation_censored AS censored
  FROM {table} AS token
  WHERE {key} = ANY (ARRAY(SELECT key FROM rows WHERE place <= $2::integer AND wanted))
    AND status = {uploading}
    AND generation_seeded_at < now() - make_interval(secs => $6::double precision)
  FOR NO KEY UPDATE SKIP LOCKED
),
retried AS (
  UPDATE {table} AS token
  SET
    status = {detected},
    generation_due_at = now(),
    generation_seeded_at = now(),
    generation_attempts = 0,
    generation_rescues = 0,
    generation_prediction_id = NULL
  WHERE {key} = ANY (ARRAY(SELECT key FROM free))
  RETURNING {key} AS key
),
written AS (
  INSERT INTO reactor.attempts (
    tokens_table, key, token_id, epoch, seed, prediction_id, outcome, error, censored, ended_at, bought_at, images, cost
  )
  SELECT
    {tokens_table}, free.key::text, number, epoch, seed, prediction_id, 'expired',
    'its image was gone before the next stage took it', censored, clock_timestamp(), made.bought_at, made.images, made.cost
  FROM free
  JOIN retried ON retried.key = free.key
  LEFT JOIN LATERAL (
    SELECT bought_at, images, cost
    FROM reactor.attempts AS entry
    WHERE entry.key = free.key::text
      AND entry.tokens_table = {tokens_table}
      AND entry.outcome = 'succeeded'
      AND entry.prediction_id = free.prediction_id
    ORDER BY id DESC
    LIMIT 1
  ) AS made ON true
  WHERE $7::boolean AND octet_length(free.key::text) <= 2000
)
SELECT
  (SELECT count(*) FROM retried) AS retried,
  (SELECT count(*) FROM rows WHERE place <= $2::integer AND wanted) - (SELECT count(*) FROM free) AS locked,
  (SELECT seeded_at::text FROM rows WHERE place > $2::integer) AS next_at,
  (SELECT key FROM rows WHERE place > $2::integer) AS next;
