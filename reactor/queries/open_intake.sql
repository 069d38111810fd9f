-- Opens the gate, but never where an operator closed it: without end and with no seconds, see pause.sql.
-- $1 reason  text  null: unless it is closed without end; else: only where it was closed for this
-- Returns the reason it was closed for; no row where it was open, or stays closed.
UPDATE reactor.intake
SET paused_until = NULL, pause_seconds = 0
WHERE paused_until IS NOT NULL
  AND CASE WHEN $1::text IS NULL THEN paused_until < 'infinity' ELSE reason = $1::text AND pause_seconds > 0 END
RETURNING reason;
