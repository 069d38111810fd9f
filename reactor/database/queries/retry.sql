-- Sets the named tokens back to detected, if they failed. Without a due time, the next claim takes them as fresh.
-- $1 token_ids  text[]  cast to the column's type
-- Returns those of $1 that were set back.
-- Leans on the index of the number.
WITH given AS (
  SELECT said, said::{number_type} AS token_id
  FROM unnest($1::text[]) AS said
)
UPDATE {table} AS token
SET status = {detected}, generation_due_at = NULL
FROM given
WHERE {number_column} = given.token_id AND token.status = {failed}
RETURNING given.said AS token_id;
