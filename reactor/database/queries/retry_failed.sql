-- Sets failed tokens among the next rows by key back to detected. Each step is one statement, however large the table.
-- $1 begin  uuid     the first key to look at; null: the smallest
-- $2 rows   integer  to look at, failed or not
-- Returns one row: retried, how many were set back; locked, how many failed ones another transaction has locked; and
-- next, the key to continue with, null at the end.
-- Leans on the primary key.
WITH rows AS (
  SELECT {key} AS key, status = {failed} AS failed, row_number() OVER (ORDER BY {key}) AS place
  FROM {table}
  WHERE {key} >= coalesce($1::uuid, (SELECT {key} FROM {table} ORDER BY {key} LIMIT 1))
  ORDER BY {key}
  LIMIT $2::integer + 1
),
free AS (
  SELECT {key} AS key
  FROM {table}
  WHERE {key} = ANY (ARRAY(SELECT key FROM rows WHERE failed AND place <= $2::integer)) AND status = {failed}
  FOR NO KEY UPDATE SKIP LOCKED
),
retried AS (
  UPDATE {table}
  SET status = {detected}, generation_due_at = NULL
  WHERE {key} = ANY (ARRAY(SELECT key FROM free))
  RETURNING 1
)
SELECT
  (SELECT count(*) FROM retried) AS retried,
  (SELECT count(*) FROM rows WHERE failed AND place <= $2::integer) - (SELECT count(*) FROM free) AS locked,
  (SELECT key FROM rows WHERE place > $2::integer) AS next;
