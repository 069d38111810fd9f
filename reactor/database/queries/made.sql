-- Finds which of our two tables the migrations made: a downgrade drops those.
-- $1 schema  text  of both
-- $2 tokens  text  the tokens table's name
-- Returns schema and name of each, the tokens first, because they refer to the authors; but no stranger's authors.
-- Leans on the catalogue's own indexes.
WITH trusted AS MATERIALIZED ({trusted})
SELECT namespace.nspname AS schema, class.relname AS name
FROM trusted
CROSS JOIN pg_catalog.pg_class AS class
JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = class.relnamespace
WHERE namespace.nspname = $1::text AND class.relname IN ($2::text, 'authors')
  AND obj_description(class.oid, 'pg_class') = 'made by reactor'
  AND (
    class.relname = $2::text
    OR class.relowner = ANY (trusted.roles)
    OR class.relowner = (SELECT relowner FROM pg_catalog.pg_class WHERE relname = $2::text AND relnamespace = namespace.oid)
  )
ORDER BY class.relname = 'authors';
