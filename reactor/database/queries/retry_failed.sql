-- Sets the next failed tokens that match a filter back to detected, in the order of the list, the oldest first.
-- Each step is one statement, however large the table.
-- $1 begin     text              where to begin, from `next`; null: at the oldest
-- $2 rows      integer           failed tokens to look at
-- $3 matching  text              see parts/matches.sql; null: any
-- $4 since     double precision  seconds; null: any
-- Returns one row: retried, how many were set back; locked, how many another transaction has locked; and next, where
-- the next step begins; null: nothing is left.
-- Leans on the partial index WHERE status = 'failed'. The limit is a subquery, as in gauges.sql.
WITH rows AS (
  SELECT {key} AS key, {listed} AS place, row_number() OVER (ORDER BY {listed}) AS row_number, {parts/matches} AS wanted
  FROM {table} AS token
  WHERE status = {failed}
    AND {listed} >= coalesce(
      $1::text::{listed_type}, (SELECT {listed} FROM {table} AS token WHERE status = {failed} ORDER BY {listed} LIMIT 1)
    )
  ORDER BY {listed}
  LIMIT (SELECT $2::integer + 1)
),
free AS (
  SELECT {key} AS key
  FROM {table} AS token
  WHERE {key} = ANY (ARRAY(SELECT key FROM rows WHERE row_number <= $2::integer AND wanted)) AND status = {failed}
  FOR NO KEY UPDATE SKIP LOCKED
),
retried AS (
  UPDATE {table} AS token
  SET status = {detected}, generation_due_at = NULL
  WHERE {key} = ANY (ARRAY(SELECT key FROM free))
  RETURNING 1
)
SELECT
  (SELECT count(*) FROM retried) AS retried,
  (SELECT count(*) FROM rows WHERE row_number <= $2::integer AND wanted) - (SELECT count(*) FROM free) AS locked,
  (SELECT place::text FROM rows WHERE row_number > $2::integer) AS next;
