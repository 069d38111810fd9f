-- Shows one token, by its key.
-- $1 key  text  cast to the column's type
-- Returns one row, as show.sql does; no row if there is no such token.
-- Leans on the primary key.
SELECT
  {parts/shown}
FROM {table} AS token
WHERE {key} = $1::text::{key_type};
