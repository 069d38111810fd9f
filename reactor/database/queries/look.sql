-- Names the tokens that a claim would take, in its order; it locks no row, and does not skip locked ones.
-- $1 tokens  integer  the most tokens to name
-- Statements that start behind a token have one or two more: see TokensTable.query.
-- Returns id, token_id, and fresh: false for a retry.
-- Leans on the two partial indexes WHERE status = 'detected', as claim.sql does.
WITH retries AS (
  SELECT {key} AS id, {number} AS token_id
  FROM {table} AS token
  WHERE status = {detected} AND generation_due_at IS NOT NULL AND generation_due_at <= now()
    AND {claimable}
    {of_retries}
  ORDER BY generation_due_at, {key}
  LIMIT (SELECT $1::integer)
),
fresh AS (
  SELECT {key} AS id, {number} AS token_id
  FROM {table} AS token
  WHERE status = {detected} AND generation_due_at IS NULL
    AND {claimable}
    {of_fresh}
  ORDER BY {order}, {key}
  LIMIT (SELECT $1::integer - count(*) FROM retries)
)
SELECT id, token_id, false AS fresh FROM retries
UNION ALL
SELECT id, token_id, true AS fresh FROM fresh;
