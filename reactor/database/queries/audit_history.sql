-- Reads the next entries of the history, of all tables, by when they ended.
-- $1 since     timestamptz  the first time
-- $2 begin_at  timestamptz  where to continue, from the last row; null: at the first
-- $3 begin     bigint       the id to continue behind
-- $4 rows      integer      at most
-- Returns entries as in sql/attempts.sql, and their ids; texts are cut to what is shown.
-- Leans on the history's index of ended_at.
SELECT
  entry.id,
  entry.tokens_table,
  entry.key,
  left(entry.token_id::text, 100) AS token_id,
  entry.epoch,
  entry.attempt,
  entry.outcome,
  left(entry.error, 300) AS error,
  entry.seed,
  left(entry.prediction_id, 200) AS prediction_id,
  entry.bought_at,
  entry.ended_at,
  entry.images,
  entry.cost
FROM reactor.attempts AS entry
WHERE entry.ended_at >= greatest($1::timestamptz, $2::timestamptz)
  AND (entry.ended_at > $2::timestamptz OR entry.id > $3::bigint) IS NOT FALSE
ORDER BY entry.ended_at, entry.id
LIMIT (SELECT $4::integer);
