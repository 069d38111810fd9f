-- Removes old entries of the history, the oldest first.
-- $1 days  integer  that an entry is kept
-- $2 rows  integer  the most to remove; keeps each transaction short
-- Returns pruned, how many were removed.
-- Leans on the index of ended_at, then on the primary key. Nobody else writes these rows; if two workers prune at once,
-- the second waits for the first, and finds less to remove.
WITH old AS (
  SELECT id
  FROM reactor.attempts
  WHERE ended_at < now() - make_interval(days => $1::integer)
  ORDER BY ended_at
  LIMIT $2::integer
),
pruned AS (
  DELETE FROM reactor.attempts
  WHERE id = ANY (ARRAY(SELECT id FROM old))
  RETURNING 1
)
SELECT count(*) AS pruned
FROM pruned;
