-- Describes the indexes of a table.
-- $1 relation  text  the table, quoted and with its schema
-- Returns for each: name, valid, columns (as the server writes them) and predicate.
-- Leans on the catalogue's own indexes.
SELECT
  class.relname AS name,
  index.indisvalid AS valid,
  ARRAY(
    SELECT pg_get_indexdef(index.indexrelid, place, true) FROM generate_series(1, index.indnatts) AS place ORDER BY place
  ) AS columns,
  pg_get_expr(index.indpred, index.indrelid) AS predicate
FROM pg_catalog.pg_index AS index
JOIN pg_catalog.pg_class AS class ON class.oid = index.indexrelid
WHERE index.indrelid = to_regclass($1::text);
