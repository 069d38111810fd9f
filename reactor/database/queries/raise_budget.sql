-- Opens the gate again that a smaller budget closed, for a worker that started with a larger DAILY_BUDGET.
-- $1 budget   integer  creates of a UTC day that this worker allows
-- $2 channel  text     the wake channel, rung on commit
-- Returns opened; the reason that the gate is or was closed for; and bought, the creates of this day so far. No row if no
-- budget keeps the gate closed, or if this budget is spent too.
-- A full NOTIFY queue would fail the commit, so no wake is sent once it is half full: the sweeps find the gate open.
--
-- An operator's longer pause stays, but its resume does not leave the budget's pause any more. A gate that waits for an image
-- tries the next token: see parts/spend.sql. A gate that waits for the check of an API token was not closed by a budget. A
-- limit that `reactor resume` has lifted stays lifted.
-- From now on any budget may close the gate, with the next create: this one, or a smaller one of another worker.
WITH spent AS (
  SELECT
    opens_on = 'image' AS fails,
    (opens_on = 'time' AND paused_until = ends_at AND starts_with(reason, 'The daily budget ')) IS TRUE AS opens
  FROM reactor.intake
  CROSS JOIN LATERAL (SELECT (budget_day + 1)::timestamp AT TIME ZONE 'UTC' AS ends_at) AS budget
  WHERE budget_closed
    AND budget_bought < $1::integer
    AND opens_on IN ('image', 'time')
    AND paused_until >= ends_at
    AND ends_at > clock_timestamp()
  FOR NO KEY UPDATE OF intake
)
UPDATE reactor.intake
SET
  budget_closed = false,
  paused_until = CASE WHEN spent.fails THEN clock_timestamp() WHEN NOT spent.opens THEN intake.paused_until END,
  opens_on = CASE WHEN NOT spent.opens THEN intake.opens_on END
FROM spent
RETURNING
  spent.opens AS opened,
  left(reason, 4000) AS reason,
  budget_bought AS bought,
  CASE WHEN pg_notification_queue_usage() < 0.5 THEN pg_notify($2::text, '') END AS notified;
