-- Reads the history of one tokens table, the entries that ended last first, from one look at the history.
-- $1 seconds   double precision  ago that the oldest entry may have ended; null: any time
-- $2 most      integer           entries to return
-- $3 before    bigint            only entries behind this one in that order; null: from the first
-- $4 outcomes  text[]            only these; null: all
-- $5 rows      integer           entries to look at, and all that ended at the same moment as the last of them
-- Returns the columns of parts/entry.sql; if no entry is found, one row of which the id is null. Each row has next, where
-- the next look begins; null: nothing is left. If $3 was pruned meanwhile, nothing is left, because what is behind it is
-- older.
-- Leans on the index of ended_at, read from $3 on and no further than $1 and $5, however rare the outcomes are.
--
-- The walk is ordered by what the index knows, because without statistics the planner would sort all that $1 allows.
WITH place AS (
  SELECT id, ended_at
  FROM reactor.attempts
  WHERE id = $3::bigint
),
walked AS MATERIALIZED (
  SELECT
    id, tokens_table, key, token_id, epoch, worker, attempt, censored, claimed_at, bought_at, ended_at, outcome,
    error_type, error, model, seed, prediction_id, predict_seconds, images, cost, web_url
  FROM reactor.attempts
  WHERE ended_at >= coalesce(now() - make_interval(secs => $1::double precision), '-infinity')
    AND ended_at <= CASE WHEN $3::bigint IS NULL THEN 'infinity' ELSE (SELECT ended_at FROM place) END
    AND ($3::bigint IS NULL OR (ended_at, id) < (SELECT ended_at, id FROM place))
  ORDER BY ended_at DESC
  FETCH FIRST (SELECT $5::integer) ROWS WITH TIES
),
page AS (
  SELECT
    {parts/entry}
  FROM walked
  WHERE tokens_table = {tokens_table}
    AND ($4::text[] IS NULL OR outcome = ANY ($4::text[]))
  ORDER BY walked.ended_at DESC, walked.id DESC
  LIMIT (SELECT $2::integer)
),
ahead AS (
  SELECT CASE
    WHEN (SELECT count(*) FROM page) >= $2::integer THEN (SELECT id FROM page ORDER BY ended_at, id LIMIT 1)
    WHEN (SELECT count(*) FROM walked) >= $5::integer THEN (SELECT id FROM walked ORDER BY ended_at, id LIMIT 1)
  END AS next
)
SELECT
  next, id, tokens_table, key, token_id, epoch, worker, attempt, censored, claimed_at, bought_at, ended_at, outcome,
  error_type, error, model, seed, prediction_id, predict_seconds, images, cost, web_url
FROM ahead
LEFT JOIN page ON true
ORDER BY ended_at DESC, id DESC;
