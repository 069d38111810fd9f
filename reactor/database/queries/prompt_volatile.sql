-- Shows whether PROMPT_SQL gives another prompt each time it is asked: then an attempt could not be repeated.
-- Returns a plan. The planner merges the subquery into the outer query, unless an expression of it is volatile: then
-- the first line of the plan is a "Subquery Scan".
-- Leans on nothing: no row is read.
EXPLAIN (COSTS OFF)
SELECT given.prompt, given.prompt
FROM (SELECT {prompt} AS prompt FROM {table} AS token) AS given;
