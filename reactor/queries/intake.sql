-- Tells how the gate stands.
-- Returns one row: paused (half-open included), reason, seconds until it is half-open (null: until an operator acts).
SELECT
  paused_until IS NOT NULL AS paused,
  CASE WHEN paused_until IS NOT NULL THEN reason END AS reason,
  CASE
    WHEN paused_until < 'infinity' THEN greatest(0, extract(epoch FROM paused_until - clock_timestamp()))
  END::double precision AS resumes_in
FROM reactor.intake;
