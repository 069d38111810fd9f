-- Shows one token.
-- $1 token_id  text  cast to the column's type
-- Returns one row; no row if there is no such token. Texts are cut to what is shown. Times that a client's dates cannot
-- hold become -infinity or infinity.
-- Leans on the index of the number.
SELECT
  {parts/shown}
FROM {table} AS token
WHERE {number_column} = $1::text::{number_type};
