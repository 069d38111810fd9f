-- Counts the predictions bought since a time that an entry names, by what became of them.
-- $1 seconds  double precision  ago; null: since midnight UTC
-- Returns became, purchases, images and cost (null if no price was known) for each of: used; rejected (its prompt was);
-- timed_out; failed; lost (bought by a worker that had lost the token); expired (its image was gone before it was used);
-- open (not ended, as far as is known: it is to be resumed).
-- Leans on the index of ended_at, read from its end: the planner cannot know how few entries a span of time has, and
-- without an order it would read the whole table. All tokens tables count, because the account is one.
--
-- A purchase is one prediction. Several entries name it if it was resumed, and the best of them tells what became of it.
-- It counts when it was bought, as the earliest of them says, so that no two days count it.
WITH entries AS (
  SELECT prediction_id, outcome, images, cost, error, bought_at, ended_at
  FROM reactor.attempts
  WHERE ended_at >= coalesce(now() - make_interval(secs => $1::double precision), date_trunc('day', now(), 'UTC'))
  ORDER BY ended_at DESC
  LIMIT (SELECT 10000000)
),
purchases AS (
  SELECT
    max(images) AS images,
    max(cost) AS cost,
    CASE
      WHEN bool_or(outcome = 'expired') THEN 'expired'
      WHEN bool_or(outcome = 'succeeded') THEN 'used'
      WHEN bool_or(outcome = 'rejected') THEN 'rejected'
      WHEN bool_or(ended AND (error LIKE 'Timed out after %' OR error LIKE '%at its deadline%')) THEN 'timed_out'
      WHEN bool_or(ended) THEN 'failed'
      WHEN bool_or(outcome = 'lost') THEN 'lost'
      ELSE 'open'
    END AS became
  FROM entries
  CROSS JOIN LATERAL (
    SELECT outcome = 'failed' OR (outcome IN ('retry', 'released') AND images IS NOT NULL) AS ended
  ) AS purchase
  WHERE prediction_id IS NOT NULL
  GROUP BY prediction_id
  HAVING coalesce(min(bought_at), min(ended_at))
    >= coalesce(now() - make_interval(secs => $1::double precision), date_trunc('day', now(), 'UTC'))
)
SELECT became, count(*) AS purchases, coalesce(sum(images), 0) AS images, sum(cost) AS cost
FROM purchases
GROUP BY became;
