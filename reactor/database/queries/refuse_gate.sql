-- Closes the gate for the whole fleet because a create was refused for its API token. A check that passes opens it.
-- $1 token   text              a mark of that API token
-- $2 reason  text
-- $3 wait    double precision  seconds until that check, if a check has passed and the next create was refused again;
--                              twice as long each time, up to an hour
-- Returns was_open, and the reason as it is kept; no row if the gate was closed without end already, or by an operator.
-- As long as a token's mark is kept, no create was accepted since its refusal: a check that passes proves nothing then.
-- If the gate waited for an image and the day's budget was spent, the first create after the check closes it again.
-- The row is locked before it is read, so of several workers that close the gate at once, one finds it open.
WITH before AS (
  SELECT
    paused_until IS NULL OR (opens_on = 'time' AND paused_until <= clock_timestamp()) AS was_open,
    CASE
      WHEN refused_token = $1::text
        THEN least(3600, greatest($3::double precision, 2 * least(3600, greatest(0, check_wait))))
      ELSE 0
    END AS wait
  FROM reactor.intake
  FOR NO KEY UPDATE
),
due AS (
  SELECT was_open, wait, clock_timestamp() + make_interval(secs => wait) AS at
  FROM before
)
UPDATE reactor.intake
SET
  paused_until = 'infinity',
  pause_seconds = 0,
  opens_on = 'check',
  budget_closed = budget_closed AND (
    opens_on = 'image' AND paused_until >= (budget_day + 1)::timestamp AT TIME ZONE 'UTC'
  ) IS NOT TRUE,
  refused_token = $1::text,
  check_wait = due.wait,
  check_at = due.at,
  reason = $2::text || CASE
    WHEN due.wait > 0
      THEN ': creates are refused although its check passes; the next check is at '
        || to_char(due.at AT TIME ZONE 'UTC', 'HH24:MI:SS') || ' UTC'
    ELSE ''
  END
FROM due
WHERE due.was_open
  OR (intake.opens_on IS DISTINCT FROM 'time' AND paused_until < 'infinity')
RETURNING due.was_open, left(reason, 4000) AS reason;
