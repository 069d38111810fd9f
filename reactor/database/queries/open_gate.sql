-- Opens the gate after a success. If an operator or the day's budget closed it, only its time or `reactor resume` opens it.
-- $1 learnt   text  create: one was accepted; image: one was made; check: the API token was accepted
-- $2 reason   text  for a check: why the gate was closed when the check began; else null
-- $3 channel  text  the wake channel, rung on commit
-- Returns the reason it was closed for; no row if it was open, or stays closed.
-- A full NOTIFY queue would fail the commit, so no wake is sent once it is half full: the sweeps find the gate open.
UPDATE reactor.intake
SET paused_until = NULL, pause_seconds = 0, opens_on = NULL
WHERE paused_until IS NOT NULL
  AND coalesce(opens_on, 'create') = $1::text
  AND CASE WHEN $1::text = 'check' THEN reason = $2::text ELSE paused_until < 'infinity' END
  AND (
    budget_closed AND paused_until = (budget_day + 1)::timestamp AT TIME ZONE 'UTC' AND paused_until > clock_timestamp()
  ) IS NOT TRUE
RETURNING left(reason, 4000) AS reason, CASE WHEN pg_notification_queue_usage() < 0.5 THEN pg_notify($3::text, '') END AS notified;
