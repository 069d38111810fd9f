-- Lets the next token through a half-open gate at once, because the token before it did not ask the provider.
-- $1 channel  text  the wake channel
-- Returns a row if the gate was half-open. A gate that was closed for longer since, or by an operator, stays closed.
-- A full NOTIFY queue would fail the commit, so no wake is sent once it is half full: the sweeps find the gate.
UPDATE reactor.intake
SET paused_until = clock_timestamp()
WHERE paused_until < clock_timestamp() + make_interval(secs => least(60, greatest(1, pause_seconds)))
  AND opens_on IS DISTINCT FROM 'time'
RETURNING CASE WHEN pg_notification_queue_usage() < 0.5 THEN pg_notify($1::text, '') END AS notified;
