-- Names the columns that a constraint of a table looks at.
-- $1 schema      text
-- $2 name        text  of the table
-- $3 constraint  text
-- Returns name of each, in the order of the table.
-- Leans on the catalogue's own indexes.
SELECT attname::text AS name
FROM pg_catalog.pg_namespace AS home
JOIN pg_catalog.pg_class AS class ON class.relnamespace = home.oid AND class.relname = $2::text
JOIN pg_catalog.pg_constraint ON conrelid = class.oid AND conname = $3::text
JOIN pg_catalog.pg_attribute ON attrelid = class.oid AND attnum = ANY (conkey)
WHERE home.nspname = $1::text
ORDER BY attnum;
