-- Counts tokens of the statuses that have an index, up to a limit, so that the cost does not grow with the table.
-- $1 most  integer  the most tokens of one kind to count
-- Returns one row: detected, generating, uploading, failed. Fresh tokens and retries are both detected: each of them is
-- counted up to the limit.
-- Leans on our partial indexes, each in its order. The limit is a subquery, as in gauges.sql.
SELECT
  (
    SELECT count(*) FROM (
      SELECT FROM {table} AS token
      WHERE status = {detected} AND generation_due_at IS NULL
        AND {claimable}
      ORDER BY {order}, {key}
      LIMIT (SELECT $1::integer)
    ) AS fresh
  ) + (
    SELECT count(*) FROM (
      SELECT FROM {table} AS token
      WHERE status = {detected} AND generation_due_at IS NOT NULL
        AND {claimable}
      ORDER BY generation_due_at, {key}
      LIMIT (SELECT $1::integer)
    ) AS retries
  ) AS detected,
  (
    SELECT count(*) FROM (
      SELECT FROM {table} AS token WHERE status = {generating} ORDER BY {key} LIMIT (SELECT $1::integer)
    ) AS held
  ) AS generating,
  (
    SELECT count(*) FROM (
      SELECT FROM {table} AS token WHERE status = {uploading} ORDER BY generation_seeded_at LIMIT (SELECT $1::integer)
    ) AS uploads
  ) AS uploading,
  (
    SELECT count(*) FROM (
      SELECT FROM {table} AS token WHERE status = {failed} ORDER BY {listed} LIMIT (SELECT $1::integer)
    ) AS failures
  ) AS failed;
