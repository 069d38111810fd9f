-- Finds those of the named tokens that failed, and why: what retry.sql would set back.
-- $1 token_ids  text[]  cast to the column's type
-- Returns token_id, as $1 has it, and error, the beginning of the text.
-- Leans on the index of the number.
WITH given AS (
  SELECT said, said::{number_type} AS token_id
  FROM unnest($1::text[]) AS said
)
SELECT given.said AS token_id, left(token.generation_error::text, 1000) AS error
FROM given
JOIN {table} AS token ON {number_column} = given.token_id
WHERE token.status = {failed};
