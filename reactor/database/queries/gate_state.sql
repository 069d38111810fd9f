-- Reads the state of the gate.
-- Returns one row: paused (half-open included), reason, resumes_in (seconds until it is half-open; null: until somebody
-- acts), opens_on (create, image, check or time), limit_per_minute (creates that a lower limit of the account allows
-- for now), check_in (seconds until the fleet checks a refused API token; null: the gate is closed for another reason),
-- refused_token (a mark of the API token that was refused last; null: it was accepted since), and budget_spent (the day's
-- budget is, so that the resume of another pause leaves that of the budget: see resume.sql).
SELECT
  paused,
  CASE WHEN paused THEN left(reason, 4000) END AS reason,
  CASE
    WHEN paused AND paused_until < 'infinity'
      THEN greatest(0, extract(epoch FROM greatest(paused_until, clock_timestamp()) - clock_timestamp()))
  END::double precision AS resumes_in,
  CASE WHEN paused THEN coalesce(opens_on, 'create') END AS opens_on,
  CASE
    WHEN limited_until > clock_timestamp() AND limit_interval > 0 THEN 60 / least(60, limit_interval)
  END AS limit_per_minute,
  CASE
    WHEN paused AND opens_on = 'check' THEN extract(epoch FROM
      least(greatest(check_at, clock_timestamp()), clock_timestamp() + interval '1 hour') - clock_timestamp())
  END::double precision AS check_in,
  left(refused_token, 12) AS refused_token,
  paused AND budget_closed AND coalesce(budget_day >= (clock_timestamp() AT TIME ZONE 'UTC')::date, false) AS budget_spent
FROM reactor.intake
CROSS JOIN LATERAL (
  SELECT paused_until IS NOT NULL AND (paused_until > clock_timestamp() OR opens_on IS DISTINCT FROM 'time') AS paused
) AS state;
