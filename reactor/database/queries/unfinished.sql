-- Tells whether any token is detected or generating.
-- Returns one boolean.
-- Leans on the three partial indexes, each in its order. EXISTS would read the table from its start if statistics say
-- that most rows match, and all of it if they are out of date.
WITH fresh AS (
  SELECT {key} AS key
  FROM {table} AS token
  WHERE status = {detected} AND generation_due_at IS NULL
    AND {claimable}
  ORDER BY {order}, {key}
  LIMIT 1
),
retries AS (
  SELECT {key} AS key
  FROM {table} AS token
  WHERE status = {detected} AND generation_due_at IS NOT NULL
    AND {claimable}
  ORDER BY generation_due_at
  LIMIT 1
),
held AS (
  SELECT {key} AS key
  FROM {table} AS token
  WHERE status = {generating}
  ORDER BY {key}
  LIMIT 1
)
SELECT coalesce((SELECT key FROM fresh), (SELECT key FROM retries), (SELECT key FROM held)) IS NOT NULL AS unfinished;
