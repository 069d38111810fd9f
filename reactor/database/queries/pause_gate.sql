-- Closes the gate for the whole fleet, never for less than it is already closed for.
-- $1 seconds   double precision  from now
-- $2 reason    text
-- $3 probed    boolean           whether the half-open gate's token failed: then it closes for twice as long as before
-- $4 opens_on  text              create or image: what opens it again
-- Returns was_open, and seconds: for how long it is closed; no row if it was closed for longer, or by an operator.
-- The row is locked before it is read, so of several workers that close the gate at once, one finds it open.
-- A gate that waits for an image goes on waiting for one if a refused create prolongs the pause.
WITH before AS (
  SELECT
    paused_until IS NULL OR (opens_on = 'time' AND paused_until <= clock_timestamp()) AS was_open,
    opens_on,
    CASE
      WHEN paused_until IS NULL OR opens_on = 'time' THEN 0
      WHEN $3::boolean THEN 2 * least(60, greatest(0, pause_seconds))
      ELSE pause_seconds
    END AS seconds
  FROM reactor.intake
  FOR NO KEY UPDATE
),
pause AS (
  SELECT
    was_open,
    CASE WHEN NOT was_open AND opens_on = 'image' THEN 'image' ELSE $4::text END AS opens_on,
    least(60, greatest(1, $1::double precision, seconds)) AS seconds,
    CASE
      WHEN $3::boolean THEN greatest($1::double precision, least(60, seconds))
      ELSE $1::double precision
    END AS closed
  FROM before
)
UPDATE reactor.intake
SET
  paused_until = clock_timestamp() + make_interval(secs => pause.closed),
  pause_seconds = pause.seconds,
  opens_on = nullif(pause.opens_on, 'create'),
  reason = $2::text
FROM pause
WHERE pause.was_open
  OR (
    intake.opens_on IS DISTINCT FROM 'time'
    AND paused_until < clock_timestamp() + make_interval(secs => pause.closed)
  )
RETURNING pause.was_open, pause.closed AS seconds;
