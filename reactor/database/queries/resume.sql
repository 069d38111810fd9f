-- Opens the gate for an operator, whatever closed it, and wakes the fleet on commit.
-- It also lifts a lower limit of the account, and forgets a refused API token.
-- $1 channel  text  the wake channel
-- Returns the reason it was closed for; no row if it was open.
-- A full NOTIFY queue would fail the commit, so no wake is sent once it is half full: the sweeps find the gate open.
UPDATE reactor.intake
SET
  paused_until = NULL, pause_seconds = 0, opens_on = NULL, limited_until = NULL,
  refused_token = NULL, check_wait = NULL, check_at = NULL
WHERE paused_until IS NOT NULL
  AND (paused_until > clock_timestamp() OR opens_on IS DISTINCT FROM 'time')
RETURNING left(reason, 4000) AS reason, CASE WHEN pg_notification_queue_usage() < 0.5 THEN pg_notify($1::text, '') END AS notified;
