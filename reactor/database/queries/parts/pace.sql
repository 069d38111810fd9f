-- The pace of the gate, from a row with the columns of reactor.intake: an item of FROM.
-- $1 create_interval  double precision  seconds between creates that our own rate limit allows; 0: no limit
-- Gives half_open; every, the seconds between creates (0: no limit); and arrives_at, when the last booked create is
-- due, or now. A burst is ten seconds' worth, or one create.
--
-- Once an operator's pause is over, the gate is open, not half-open. A lower limit of the account is kept with 2 % to
-- spare, because requests do not arrive as evenly as tokens are claimed. An arrival_at more than five minutes ahead is
-- a clock error or was set by hand: it counts as now.
LATERAL (
  SELECT
    paused_until IS NOT NULL AND opens_on IS DISTINCT FROM 'time' AS half_open,
    greatest($1::double precision, CASE WHEN limited_until > clock_timestamp() THEN 1.02 * least(60, limit_interval) END) AS every,
    greatest(
      CASE WHEN arrival_at < clock_timestamp() + interval '5 minutes' THEN arrival_at END, clock_timestamp()
    ) AS arrives_at
) AS pace
