-- Closes the gate for the whole fleet, never for less than it is already closed for.
-- $1 seconds  double precision  from now; null: until somebody opens it
-- $2 reason   text
-- Returns whether it was open before; no row where it was closed for longer.
-- The row is locked before it is read: of several that close it at once, one finds it open.
WITH pause AS (
  SELECT
    paused_until IS NULL AS was_open,
    coalesce(clock_timestamp() + make_interval(secs => $1::double precision), 'infinity') AS until
  FROM reactor.intake
  FOR NO KEY UPDATE
)
UPDATE reactor.intake
SET
  paused_until = pause.until,
  pause_seconds = least(60, greatest(1, coalesce($1::double precision, 1))),
  reason = $2::text
FROM pause
WHERE paused_until IS NULL OR paused_until < pause.until
RETURNING pause.was_open;
