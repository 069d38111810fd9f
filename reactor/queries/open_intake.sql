-- Opens the gate.
-- $1 reason  text  null: unless it is closed without end; else: only where it was closed for this
-- Returns the reason it was closed for; no row where it was open, or stays closed.
UPDATE reactor.intake
SET paused_until = NULL, pause_seconds = 0
WHERE paused_until IS NOT NULL
  AND CASE WHEN $1::text IS NULL THEN paused_until < 'infinity' ELSE reason = $1::text END
RETURNING reason;
