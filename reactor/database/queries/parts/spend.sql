-- Counts the creates that were accepted against the day's budget, and closes the gate once it is spent.
-- Leans on two lists before it: `purchases`, a row for each prediction that no row named before; and `budget`, one row
-- with creates, the budget of a UTC day (0: no limit, and nothing is counted).
--
-- The gate's row is locked before it is read, so that no create is counted twice. The day never goes back: if the clock
-- is set back, the later day is counted on. The gate closes once a day, so that `reactor resume` holds until its end. This
-- pause replaces every other, except an operator's longer one and these two, whose cause would still be there at
-- midnight:
--   a refused API token stays the reason, and nothing can be bought. The first create after its check closes the gate
--   a gate that waits for an image goes on waiting for one, and tries the next token when the day is over
ledger AS (
  SELECT budget_day, budget_bought, budget_closed, paused_until, opens_on
  FROM reactor.intake
  WHERE (SELECT creates FROM budget) > 0
    AND EXISTS (SELECT FROM purchases)
  FOR NO KEY UPDATE
),
counted AS (
  SELECT
    greatest(budget_day, today) AS day,
    bought,
    was_closed,
    closes,
    closes AND (opens_on = 'time' AND paused_until >= opens_at) IS NOT TRUE AS pauses,
    paused_until IS NOT NULL AND opens_on IS NOT DISTINCT FROM 'image' AS fails,
    opens_at,
    format('The daily budget of %s creates is spent; the gate opens at ', creates)
      || to_char(opens_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI "UTC"') AS reason
  FROM ledger
  CROSS JOIN budget
  CROSS JOIN (SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date AS today) AS clock
  CROSS JOIN LATERAL (
    SELECT
      CASE WHEN budget_day >= today THEN budget_bought ELSE 0 END + (SELECT count(*) FROM purchases) AS bought,
      coalesce(budget_day >= today AND budget_closed, false) AS was_closed,
      (greatest(budget_day, today) + 1)::timestamp AT TIME ZONE 'UTC' AS opens_at
  ) AS so_far
  CROSS JOIN LATERAL (
    SELECT bought >= creates AND NOT was_closed AND (paused_until IS NOT NULL AND opens_on = 'check') IS NOT TRUE AS closes
  ) AS due
),
spent AS (
  UPDATE reactor.intake
  SET
    budget_day = counted.day,
    budget_bought = counted.bought,
    budget_closed = counted.was_closed OR counted.closes,
    paused_until = CASE
      WHEN counted.pauses AND counted.fails THEN greatest(counted.opens_at, intake.paused_until)
      WHEN counted.pauses THEN counted.opens_at
      ELSE intake.paused_until
    END,
    pause_seconds = CASE WHEN counted.pauses AND NOT counted.fails THEN 0 ELSE intake.pause_seconds END,
    opens_on = CASE WHEN counted.pauses AND NOT counted.fails THEN 'time' ELSE intake.opens_on END,
    reason = CASE WHEN counted.pauses AND NOT counted.fails THEN counted.reason ELSE intake.reason END
  FROM counted
)
