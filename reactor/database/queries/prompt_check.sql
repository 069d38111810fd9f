-- Checks that PROMPT_SQL can stand where a claim uses it; no row is read or changed.
-- Returns a plan.
-- Leans on nothing.
EXPLAIN (COSTS OFF)
UPDATE {table} AS token
SET status = status
WHERE false
RETURNING {prompt};
