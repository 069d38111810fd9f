-- Closes the gate for the whole fleet, never for less than it is already closed for.
-- $1 seconds  double precision  from now; null: until somebody opens it
-- $2 reason   text
-- $3 probed   boolean           by the token that the half-open gate let through: closed for twice as long as before
-- Returns whether it was open before, and for how many seconds it is closed (null: without end); no row where it was
-- closed for longer.
-- The row is locked before it is read: of several that close it at once, one finds it open.
WITH before AS (
  SELECT
    paused_until,
    CASE WHEN paused_until IS NULL THEN 0 WHEN $3::boolean THEN 2 * pause_seconds ELSE pause_seconds END AS seconds
  FROM reactor.intake
  FOR NO KEY UPDATE
),
pause AS (
  SELECT
    paused_until IS NULL AS was_open,
    least(60, greatest(1, $1::double precision, seconds)) AS seconds,
    CASE WHEN $3::boolean THEN greatest($1::double precision, least(60, seconds)) ELSE $1::double precision END AS closed
  FROM before
)
UPDATE reactor.intake
SET
  paused_until = coalesce(clock_timestamp() + make_interval(secs => pause.closed), 'infinity'),
  pause_seconds = pause.seconds,
  reason = $2::text
FROM pause
WHERE paused_until IS NULL
  OR paused_until < coalesce(clock_timestamp() + make_interval(secs => pause.closed), 'infinity')
RETURNING pause.was_open, pause.closed AS seconds;
