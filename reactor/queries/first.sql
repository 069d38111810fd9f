-- Tells which token a claim would take first: none that is locked.
-- $1 passed_over  uuid[]  tokens that the table refuses to let us claim
-- Returns its id and token_id; no row where nothing is due.
-- Leans on the two partial indexes WHERE status = 'detected', as claim.sql does.
WITH retries AS (
  SELECT {key} AS id, token_id
  FROM {table}
  WHERE status = {detected} AND generation_due_at IS NOT NULL AND generation_due_at <= now()
    AND {key} <> ALL ($1::uuid[])
  ORDER BY generation_due_at, {key}
  LIMIT 1
  FOR NO KEY UPDATE SKIP LOCKED
),
fresh AS (
  SELECT {key} AS id, token_id
  FROM {table}
  WHERE status = {detected} AND generation_due_at IS NULL
    AND {key} <> ALL ($1::uuid[])
  ORDER BY {order}, {key}
  LIMIT 1
  FOR NO KEY UPDATE SKIP LOCKED
)
SELECT id, token_id FROM retries
UNION ALL
SELECT id, token_id FROM fresh
LIMIT 1;
