-- Sums up the newest attempts and purchases of a table by when they ended, in periods that count back from now.
-- $1 period   double precision  seconds of one period
-- $2 periods  integer
-- $3 rows     integer           the most entries to read, the newest first, those of other tables included
-- Returns a row for each period in which something ended: period (0 is the one that ends now), succeeded, failed (the
-- token failed), again (retries, releases, rescues and refused prompts), half and most: the seconds from claim
-- to image that half and 95 % of the images took at most; if nothing ended, one row of which the period is null. Each row
-- has more: whether $3 entries were read, so that older ones are missing.
-- Leans on the index of ended_at, read from its end and no further than the oldest period.
WITH walked AS MATERIALIZED (
  SELECT tokens_table, outcome, claimed_at, ended_at
  FROM reactor.attempts
  WHERE ended_at > now() - make_interval(secs => $1::double precision * $2::integer)
  ORDER BY ended_at DESC
  LIMIT (SELECT $3::integer)
),
placed AS (
  SELECT
    outcome,
    greatest(0, floor(extract(epoch FROM now() - ended_at) / $1::double precision))::integer AS period,
    CASE WHEN outcome = 'succeeded' THEN greatest(0, extract(epoch FROM ended_at - claimed_at)) END::double precision AS took
  FROM walked
  WHERE tokens_table = {tokens_table}
),
summed AS (
  SELECT
    period,
    count(*) FILTER (WHERE outcome = 'succeeded') AS succeeded,
    count(*) FILTER (WHERE outcome = 'failed') AS failed,
    count(*) FILTER (WHERE outcome IN ('retry', 'released', 'rescued', 'rejected')) AS again,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY took) AS half,
    percentile_cont(0.95) WITHIN GROUP (ORDER BY took) AS most
  FROM placed
  WHERE period < $2::integer
  GROUP BY period
)
SELECT period, succeeded, failed, again, half, most, more
FROM (SELECT (SELECT count(*) FROM walked) >= $3::integer AS more) AS looked
LEFT JOIN summed ON true
ORDER BY period;
