-- Closes the gate on an operator's word, whatever it is closed for already.
-- $1 reason   text
-- $2 seconds  double precision  from now; null: until `reactor resume`
-- Returns one row: the reason.
-- It opens on time alone. No automatic pause takes the place of this one while it lasts (pause_gate.sql), and what opens by
-- itself (open_gate.sql) leaves it alone.
UPDATE reactor.intake
SET
  paused_until = coalesce(clock_timestamp() + make_interval(secs => $2::double precision), 'infinity'),
  pause_seconds = 0,
  opens_on = 'time',
  reason = $1::text
RETURNING left(reason, 4000) AS reason;
