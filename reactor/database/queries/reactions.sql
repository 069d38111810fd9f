-- Reads how soon after its mint an image was bought, for the newest tokens.
-- Only tokens that were claimed once count, because a retry waits for its time.
-- $1 seconds  double precision  ago that the purchase may have ended at most
-- $2 rows     integer           the most entries to read, the newest first
-- Returns one row: tokens, half and most (the seconds that half and 95 % of them took at most; null: no token).
-- Leans on the index of ended_at, read from its end and no further than $1, and on the key of the tokens.
WITH newest AS (
  SELECT key, min(bought_at) AS bought_at
  FROM (
    SELECT key, bought_at, epoch
    FROM reactor.attempts
    WHERE tokens_table = {tokens_table}
      AND ended_at > now() - make_interval(secs => $1::double precision)
    ORDER BY ended_at DESC
    LIMIT (SELECT $2::integer)
  ) AS entries
  WHERE epoch = 1 AND bought_at IS NOT NULL
  GROUP BY key
),
reacted AS (
  SELECT greatest(0, extract(epoch FROM newest.bought_at - {born}))::double precision AS took
  FROM {table} AS token
  JOIN newest ON newest.key = {key}::text
  WHERE {key} = ANY (ARRAY(SELECT key::{key_type} FROM newest))
    AND {born} BETWEEN newest.bought_at - interval '1 day' AND newest.bought_at + interval '1 hour'
)
SELECT
  count(*) AS tokens,
  percentile_cont(0.5) WITHIN GROUP (ORDER BY took) AS half,
  percentile_cont(0.95) WITHIN GROUP (ORDER BY took) AS most
FROM reacted;
