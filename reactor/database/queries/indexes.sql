-- Describes the indexes of a table.
-- $1 relation  text  the table, quoted and with its schema
-- Returns for each: name, valid, columns (their names, without expressions) and predicate (as the server writes it).
-- Leans on the catalogue's own indexes.
SELECT
  class.relname AS name,
  index.indisvalid AS valid,
  ARRAY(
    SELECT attname::text
    FROM unnest(index.indkey::smallint[]) WITH ORDINALITY AS part (number, place)
    JOIN pg_catalog.pg_attribute ON attrelid = index.indrelid AND attnum = part.number
    ORDER BY place
  ) AS columns,
  pg_get_expr(index.indpred, index.indrelid) AS predicate
FROM pg_catalog.pg_index AS index
JOIN pg_catalog.pg_class AS class ON class.oid = index.indexrelid
WHERE index.indrelid = to_regclass($1::text);
