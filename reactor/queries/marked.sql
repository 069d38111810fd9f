-- Finds the tokens tables that the migrations made or completed.
-- Returns schema and name of each.
-- Leans on the catalogue's own indexes.
SELECT namespace.nspname AS schema, class.relname AS name
FROM pg_catalog.pg_attribute
JOIN pg_catalog.pg_class AS class ON class.oid = attrelid AND class.relkind IN ('r', 'p')
JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = class.relnamespace
WHERE attname = 'generation_epoch' AND NOT attisdropped AND 'made by reactor' IN (
  obj_description(class.oid, 'pg_class'), col_description(class.oid, attnum)
)
ORDER BY 1, 2;
