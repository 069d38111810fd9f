-- Opens the gate on an operator's word, whatever closed it, and wakes the fleet as that commits.
-- $1 channel  text  the wake channel
-- Returns the reason it was closed for; no row where it was open.
UPDATE reactor.intake
SET paused_until = NULL, pause_seconds = 0
WHERE paused_until IS NOT NULL
RETURNING reason, pg_notify($1::text, '');
