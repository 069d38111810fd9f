-- Opens the gate for what was learnt, but never where an operator closed it: that is the time's or `reactor resume`'s.
-- $1 learnt   text  create: one was accepted; image: one is there; check: the API token is accepted
-- $2 reason   text  of a check: what the gate was closed for when the check began; else null
-- $3 channel  text  the wake channel, rung as this commits
-- Returns the reason it was closed for; no row where it was open, or stays closed.
-- A full NOTIFY queue would fail the commit: then nobody is woken, and the sweeps find the gate open.
UPDATE reactor.intake
SET paused_until = NULL, pause_seconds = 0, opens_on = NULL
WHERE paused_until IS NOT NULL
  AND coalesce(opens_on, 'create') = $1::text
  AND CASE WHEN $1::text = 'check' THEN reason = $2::text ELSE paused_until < 'infinity' END
RETURNING left(reason, 4000) AS reason, CASE WHEN pg_notification_queue_usage() < 0.5 THEN pg_notify($3::text, '') END AS told;
