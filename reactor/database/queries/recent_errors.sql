-- Sums up the errors in which the newest attempts ended, in periods that count back from now.
-- $1 period   double precision  seconds of one period
-- $2 periods  integer
-- $3 rows     integer           the most entries to read, the newest first, those of other tables included
-- $4 most     integer           texts to return, the most frequent first
-- Returns a row for each error, the beginning of the text, and each period in which it ended an attempt: error, period (0
-- is the one that ends now), failed (the token failed), refused (the author's prompt was, and the fallback was used), back
-- (retries and releases); if there was no error, one row of which the error is null. Each row has died, the attempts that
-- ended because their worker died, and more, whether older entries or further texts are left out.
-- Leans on the index of ended_at, read from its end and no further than the oldest period.
WITH walked AS MATERIALIZED (
  SELECT tokens_table, outcome, left(error, 300) COLLATE "C" AS error, ended_at
  FROM reactor.attempts
  WHERE ended_at > now() - make_interval(secs => $1::double precision * $2::integer)
  ORDER BY ended_at DESC
  LIMIT (SELECT $3::integer)
),
ended AS (
  SELECT
    error,
    outcome,
    greatest(0, floor(extract(epoch FROM now() - ended_at) / $1::double precision))::integer AS period
  FROM walked
  WHERE tokens_table = {tokens_table}
    AND outcome IN ('retry', 'failed', 'rejected', 'released')
    AND error IS NOT NULL
),
texts AS (
  SELECT error, count(*) AS attempts
  FROM ended
  GROUP BY error
  ORDER BY attempts DESC, error
  LIMIT (SELECT $4::integer)
),
summed AS (
  SELECT
    error,
    period,
    count(*) FILTER (WHERE outcome = 'failed') AS failed,
    count(*) FILTER (WHERE outcome = 'rejected') AS refused,
    count(*) FILTER (WHERE outcome IN ('retry', 'released')) AS back
  FROM ended
  JOIN texts USING (error)
  WHERE period < $2::integer
  GROUP BY error, period
),
looked AS (
  SELECT
    (SELECT count(*) FROM walked WHERE tokens_table = {tokens_table} AND outcome = 'rescued') AS died,
    (SELECT count(*) FROM walked) >= $3::integer OR (SELECT count(DISTINCT error) FROM ended) > $4::integer AS more
)
SELECT error, period, failed, refused, back, died, more
FROM looked
LEFT JOIN summed ON true;
