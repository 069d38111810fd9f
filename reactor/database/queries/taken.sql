-- Finds relations of a schema that have names which a table needs for its own indexes, but belong to another.
-- $1 schema  text
-- $2 tokens  text    the table that needs the names
-- $3 names   text[]
-- Returns name; and other, the table whose index it is, if that table has our columns; null if it is not ours.
-- Leans on the catalogue's own indexes.
SELECT relation.relname::text AS name, (
  SELECT indexed.relname::text
  FROM pg_catalog.pg_class AS indexed
  JOIN pg_catalog.pg_attribute ON attrelid = indexed.oid AND attname = 'generation_epoch' AND NOT attisdropped
  WHERE indexed.oid = index.indrelid
) AS other
FROM pg_catalog.pg_class AS relation
JOIN pg_catalog.pg_namespace AS home ON home.oid = relation.relnamespace AND home.nspname = $1::text
LEFT JOIN pg_catalog.pg_index AS index ON index.indexrelid = relation.oid
LEFT JOIN pg_catalog.pg_class AS mine ON mine.relname = $2::text AND mine.relnamespace = home.oid
WHERE relation.relname = ANY ($3::text[]) AND index.indrelid IS DISTINCT FROM mine.oid;
