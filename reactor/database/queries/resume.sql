-- Opens the gate on an operator's word, whatever closed it, and wakes the fleet as that commits.
-- A lower limit is lifted too, and nothing is kept of a refused API token.
-- $1 channel  text  the wake channel
-- Returns the reason it was closed for; no row where it was open.
-- A full NOTIFY queue would fail the commit: then nobody is woken, and the workers' sweeps find the gate open.
UPDATE reactor.intake
SET
  paused_until = NULL, pause_seconds = 0, opens_on = NULL, limited_until = NULL,
  refused_token = NULL, check_wait = NULL, check_at = NULL
WHERE paused_until IS NOT NULL
  AND (paused_until > clock_timestamp() OR opens_on IS DISTINCT FROM 'time')
RETURNING left(reason, 4000) AS reason, CASE WHEN pg_notification_queue_usage() < 0.5 THEN pg_notify($1::text, '') END AS told;
