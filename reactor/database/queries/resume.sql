-- Opens the gate for an operator, whatever closed it, and wakes the fleet on commit.
-- It also lifts a lower limit of the account, and forgets a refused API token.
-- $1 channel  text  the wake channel
-- Returns the reason it was closed for; and stays_closed, until when the day's budget keeps it closed, as in
-- '2026-01-02 00:00 UTC' (null: it is open now). No row if it was open.
-- A full NOTIFY queue would fail the commit, so no wake is sent once it is half full: the sweeps find the gate open.
--
-- Only the resume of the budget's own pause lifts the limit, for the rest of its day. If the budget is spent, the resume
-- of any other pause leaves that of the budget, so that nobody lifts a limit that they did not see.
WITH before AS (
  SELECT
    reason,
    CASE
      WHEN budget_closed
        AND ends_at > clock_timestamp()
        AND (opens_on = 'time' AND paused_until = ends_at AND starts_with(reason, 'The daily budget ')) IS NOT TRUE
        THEN ends_at
    END AS stays_until
  FROM reactor.intake
  CROSS JOIN LATERAL (SELECT (budget_day + 1)::timestamp AT TIME ZONE 'UTC' AS ends_at) AS budget
  FOR NO KEY UPDATE OF intake
),
told AS (
  SELECT reason, stays_until, to_char(stays_until AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI "UTC"') AS stays_closed
  FROM before
)
UPDATE reactor.intake
SET
  paused_until = told.stays_until,
  pause_seconds = 0,
  opens_on = CASE WHEN told.stays_until IS NOT NULL THEN 'time' END,
  reason = CASE
    WHEN told.stays_until IS NOT NULL THEN 'The daily budget is spent; the gate opens at ' || told.stays_closed
    ELSE intake.reason
  END,
  limited_until = NULL, refused_token = NULL, check_wait = NULL, check_at = NULL
FROM told
WHERE paused_until IS NOT NULL
  AND (paused_until > clock_timestamp() OR opens_on IS DISTINCT FROM 'time')
RETURNING
  left(told.reason, 4000) AS reason,
  told.stays_closed,
  CASE WHEN pg_notification_queue_usage() < 0.5 THEN pg_notify($1::text, '') END AS notified;
