-- Counts the purchases whose image expired before it was used, from where the last look ended: a step of a day's count.
-- $1 read_to  timestamptz       where the last look ended; null: this is the first one
-- $2 rows     integer           the most entries to read
-- $3 settled  double precision  seconds; younger entries wait for the next look, because one may be committed late
-- Returns one row: expired, of the entries that were read; their cost, as far as a price was known; anew: the look began
-- at midnight UTC, so the count begins at nothing; more: not all were read; read_to.
-- Leans on the index of ended_at, each entry read once. All tokens tables count, because the account is one.
--
-- `reactor retry --expired` writes such an entry, so a purchase counts on the day when that was run. Entries that ended
-- at the same moment are read together. If the clock was set back, the count begins anew.
WITH span AS (
  SELECT
    CASE WHEN $1::timestamptz > midnight AND $1::timestamptz <= now() THEN $1::timestamptz END AS known,
    midnight,
    now() - make_interval(secs => $3::double precision) AS until
  FROM date_trunc('day', now(), 'UTC') AS midnight
),
entries AS (
  SELECT ended_at, outcome, prediction_id, cost
  FROM reactor.attempts
  WHERE ended_at > (SELECT coalesce(known, midnight) FROM span)
    AND ended_at <= (SELECT until FROM span)
  ORDER BY ended_at
  FETCH FIRST (SELECT $2::integer) ROWS WITH TIES
)
SELECT
  count(*) FILTER (WHERE outcome = 'expired' AND prediction_id IS NOT NULL) AS expired,
  coalesce(sum(cost) FILTER (WHERE outcome = 'expired' AND prediction_id IS NOT NULL), 0) AS cost,
  (SELECT known IS NULL FROM span) AS anew,
  count(*) >= $2::integer AS more,
  CASE
    WHEN count(*) >= $2::integer THEN max(ended_at)
    ELSE (SELECT greatest(known, midnight, until) FROM span)
  END AS read_to
FROM entries;
