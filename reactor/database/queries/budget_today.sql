-- Reads how many creates the fleet made on this UTC day.
-- Returns bought; no row if reactor.intake has lost its row.
-- A day that was counted and is not over stays the day that counts, though the clock was set back.
SELECT CASE WHEN budget_day >= (now() AT TIME ZONE 'UTC')::date THEN budget_bought ELSE 0 END AS bought
FROM reactor.intake;
