-- Finds the tokens tables that the migrations made or completed.
-- Returns schema and name of each. A mark or one of our triggers shows them: a dump without comments has no marks. Any role
-- can mark a table of its own. So a table counts only if we trust its owner, or if it has one of our triggers that its
-- owner cannot have made (see discover.sql).
-- Leans on the catalogue's own indexes.
WITH trusted AS MATERIALIZED ({trusted})
SELECT namespace.nspname AS schema, class.relname AS name
FROM trusted
CROSS JOIN pg_catalog.pg_attribute
JOIN pg_catalog.pg_class AS class ON class.oid = attrelid AND class.relkind IN ('r', 'p')
JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = class.relnamespace
CROSS JOIN LATERAL (
  SELECT EXISTS (
    SELECT
    FROM pg_catalog.pg_trigger
    JOIN pg_catalog.pg_proc ON pg_proc.oid = tgfoid AND pronamespace = to_regnamespace('reactor')
    WHERE tgrelid = class.oid
  ) AS ring
) AS triggers
WHERE attname = 'generation_epoch'
  AND NOT attisdropped
  AND (
    triggers.ring
    OR 'made by reactor' IN (obj_description(class.oid, 'pg_class'), col_description(class.oid, attnum))
  )
  AND (
    class.relowner = ANY (trusted.roles)
    OR triggers.ring AND NOT has_schema_privilege(class.relowner, to_regnamespace('reactor'), 'USAGE')
  )
ORDER BY 1, 2;
