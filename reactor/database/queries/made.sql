-- Finds which of our two tables the migrations made: a downgrade drops those.
-- $1 schema  text  of both
-- $2 tokens  text  the tokens table's name
-- Returns schema and name of each, the tokens first, because they refer to the authors; but no stranger's authors, and
-- none that another table refers to.
-- Leans on the catalogue's own indexes.
WITH trusted AS MATERIALIZED ({trusted})
SELECT namespace.nspname AS schema, class.relname AS name
FROM trusted
CROSS JOIN pg_catalog.pg_class AS class
JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = class.relnamespace
WHERE namespace.nspname = $1::text AND class.relname IN ($2::text, 'authors')
  AND class.relkind = 'r'
  AND obj_description(class.oid, 'pg_class') = 'made by reactor'
  AND (
    class.relname = $2::text
    OR class.relowner = ANY (trusted.roles)
    OR class.relowner = (SELECT relowner FROM pg_catalog.pg_class WHERE relname = $2::text AND relnamespace = namespace.oid)
  )
  AND (class.relname = $2::text OR NOT EXISTS (
    -- Another table that refers to the authors, or that we serve and that has an author_id.
    SELECT
    FROM pg_catalog.pg_class AS referring
    WHERE NOT (referring.relname = $2::text AND referring.relnamespace = namespace.oid)
      AND (
        EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE contype = 'f' AND confrelid = class.oid AND conrelid = referring.oid)
        OR referring.relnamespace = namespace.oid AND referring.relkind = 'r' AND 2 = (
          SELECT count(*)
          FROM pg_catalog.pg_attribute
          WHERE attrelid = referring.oid AND attname IN ('author_id', 'generation_epoch') AND NOT attisdropped
        )
      )
  ))
  AND (
    class.relname = $2::text
    OR EXISTS (
      SELECT
      FROM pg_catalog.pg_class AS tokens
      WHERE tokens.relname = $2::text
        AND tokens.relnamespace = namespace.oid
        AND obj_description(tokens.oid, 'pg_class') = 'made by reactor'
    )
  )
ORDER BY class.relname = 'authors';
