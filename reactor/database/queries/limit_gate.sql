-- Sets the fleet's rate to a lower limit of the account, for ten minutes from now.
-- $1 interval  double precision  seconds between creates
-- Returns news: whether this limit was not in force before.
WITH before AS (
  SELECT limited_until > clock_timestamp() AND limit_interval = $1::double precision AS known
  FROM reactor.intake
  FOR NO KEY UPDATE
)
UPDATE reactor.intake
SET limit_interval = $1::double precision, limited_until = clock_timestamp() + interval '10 minutes'
FROM before
RETURNING before.known IS DISTINCT FROM true AS news;
