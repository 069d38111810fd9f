-- Closes the gate for an operator, even if it is closed already.
-- $1 reason   text
-- $2 seconds  double precision  from now; null: until `reactor resume`
-- Returns one row: the reason by now; and stays_closed, until when the day's budget keeps the gate closed anyway, as in
-- '2026-01-02 00:00 UTC' (null: the pause is this one). Only its time, or `reactor resume`, opens it. Until then no
-- success ends it (open_gate.sql), and no automatic pause replaces it (pause_gate.sql) but the budget's, if that lasts
-- longer (parts/spend.sql).
--
-- If the day's budget keeps the gate closed for longer, the gate stays as it is. So what ends the budget's pause, as a
-- larger DAILY_BUDGET, opens the gate: a shorter pause gives way to the budget's, whichever came first. An operator's
-- longer pause that is shortened leaves the budget's, as its resume does (resume.sql).
WITH before AS (
  SELECT
    ends_at,
    coalesce(clock_timestamp() + make_interval(secs => $2::double precision), 'infinity') AS pauses_until,
    opens_on = 'image' OR starts_with(reason, 'The daily budget ') AS is_the_budgets
  FROM reactor.intake
  CROSS JOIN LATERAL (
    SELECT
      CASE
        WHEN budget_closed AND paused_until >= midnight AND opens_on IN ('image', 'time') THEN midnight
      END AS ends_at
    FROM (SELECT (budget_day + 1)::timestamp AT TIME ZONE 'UTC' AS midnight) AS budget
  ) AS spent
  FOR NO KEY UPDATE OF intake
),
told AS (
  SELECT
    CASE WHEN pauses_until <= ends_at THEN ends_at END AS stays_until,
    pauses_until,
    is_the_budgets,
    CASE
      WHEN pauses_until <= ends_at THEN to_char(ends_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI "UTC"')
    END AS stays_closed
  FROM before
)
UPDATE reactor.intake
SET
  paused_until = coalesce(told.stays_until, told.pauses_until),
  pause_seconds = CASE WHEN told.stays_until IS NOT NULL THEN pause_seconds ELSE 0 END,
  opens_on = CASE WHEN told.stays_until IS NOT NULL THEN opens_on ELSE 'time' END,
  reason = CASE
    WHEN told.stays_until IS NULL THEN $1::text
    WHEN told.is_the_budgets THEN reason
    ELSE 'The daily budget is spent; the gate opens at ' || told.stays_closed
  END
FROM told
RETURNING left(reason, 4000) AS reason, told.stays_closed;
