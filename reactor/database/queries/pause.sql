-- Closes the gate for an operator, even if it is closed already.
-- $1 reason   text
-- $2 seconds  double precision  from now; null: until `reactor resume`
-- Returns one row: the reason. Only its time, or `reactor resume`, opens it. Until then no automatic pause replaces
-- this one (pause_gate.sql), and no success ends it (open_gate.sql).
UPDATE reactor.intake
SET
  paused_until = coalesce(clock_timestamp() + make_interval(secs => $2::double precision), 'infinity'),
  pause_seconds = 0,
  opens_on = 'time',
  reason = $1::text
RETURNING left(reason, 4000) AS reason;
