-- Decides how many of the found tokens may pass (`passed`: the first of `found`), and books their creates in the gate's
-- row.
--
-- The gate's row is locked only if tokens were found and there is something to book. `admitted` is computed from the
-- locked row, so that two workers that claim at once do not both spend what is left. `locked` must not join the pace,
-- because after a wait for the lock PostgreSQL reads the locked row again, but not the subqueries beside it.
--
-- A claim through a half-open gate closes it for pause_seconds, so the fleet gets one token in that time. A
-- pause_seconds outside of 1 to 60, NaN included, counts as the nearer of the two. A rate limit counts creates (GCRA,
-- with a burst of ten seconds' worth).
locked AS (
  SELECT paused_until, opens_on, arrival_at, limited_until, limit_interval
  FROM reactor.intake
  WHERE (SELECT guarded FROM gate)
    AND EXISTS (SELECT FROM found)
    AND (paused_until IS NULL OR paused_until <= clock_timestamp())
  FOR NO KEY UPDATE
),
admitted AS (
  SELECT
    half_open,
    CASE WHEN half_open THEN coalesce(opens_on, 'create') END AS probe,
    arrives_at,
    every,
    -- Without a limit the quotient is null, and `least` passes over it.
    CASE
      WHEN half_open THEN 1
      ELSE greatest(0, least((SELECT count(*) FROM found), floor(0.001 + (
        greatest(10, every) - extract(epoch FROM arrives_at - clock_timestamp())
      ) / nullif(every, 0))))
    END::integer AS tokens
  FROM locked
  CROSS JOIN {parts/pace}
),
booked AS (
  UPDATE reactor.intake
  SET
    paused_until = CASE
      WHEN half_open THEN clock_timestamp() + make_interval(secs => least(60, greatest(1, intake.pause_seconds)))
    END,
    arrival_at = arrives_at + make_interval(secs => every * tokens)
  FROM admitted
  WHERE tokens > 0
),
passed AS (
  SELECT key
  FROM found
  LIMIT CASE WHEN (SELECT guarded FROM gate) THEN coalesce((SELECT tokens FROM admitted), 0) END
)
