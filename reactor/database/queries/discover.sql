-- Finds the tokens table.
-- $1 tokens  text  as TOKENS_TABLE gives it: a name or schema.name; case counts
-- Returns one row per table that the name can mean: schema, name and owner; revision_readable, null if there
-- is no revision; passed_over, whether we ignore the table.
--
-- Any role that may create a table can give it our columns and our mark. So a name alone means, in this order:
-- 1. the migrated tables of that name, in any schema, whose owner we trust; or which have one of our triggers, though
--    their owner has no rights in schema reactor and cannot have made it: a superuser migrated them;
-- 2. the first table of the search path that a role which we trust owns;
-- 3. the tables of the search path, of any role: a host's table, which we serve with rights on it.
-- If there are none of these, 4 names the strangers' marked tables, which are passed over.
-- A name with a schema means that table, of any role.
-- A copy of the rows (CREATE TABLE AS) has our columns, but neither the migrations' mark nor a trigger.
-- Leans on the catalogue's own indexes.
WITH trusted AS MATERIALIZED ({trusted}),
path AS (
  SELECT home.oid AS home, place
  FROM unnest(coalesce(nullif(current_setting('reactor.path', true), '')::text[], current_schemas(false)::text[]))
    WITH ORDINALITY AS inherited (schema, place)
  JOIN pg_catalog.pg_namespace AS home ON home.nspname = inherited.schema
),
named AS (
  SELECT
    class.oid,
    place,
    class.relowner = ANY (trusted.roles) AS trusted,
    ours.attnum IS NOT NULL AND rings AS rings,
    ours.attnum IS NOT NULL AND (
      rings OR 'made by reactor' IN (obj_description(class.oid, 'pg_class'), col_description(class.oid, ours.attnum))
    ) AS migrated,
    has_schema_privilege(class.relowner, to_regnamespace('reactor'), 'USAGE') AS may_ring
  FROM trusted
  CROSS JOIN pg_catalog.pg_class AS class
  LEFT JOIN path ON path.home = class.relnamespace
  LEFT JOIN pg_catalog.pg_attribute AS ours ON ours.attrelid = class.oid
    AND ours.attname = 'generation_epoch'
    AND NOT ours.attisdropped
    AND class.relkind IN ('r', 'p')
    AND class.relpersistence <> 't'
  CROSS JOIN LATERAL (
    SELECT EXISTS (
      SELECT
      FROM pg_catalog.pg_trigger
      JOIN pg_catalog.pg_proc ON pg_proc.oid = tgfoid
      JOIN pg_catalog.pg_namespace AS home ON home.oid = pronamespace AND home.nspname = 'reactor'
      WHERE tgrelid = class.oid
    ) AS rings
  ) AS triggers
  WHERE class.relname = $1::text AND strpos($1::text, '.') = 0
),
candidates AS (
  SELECT
    oid,
    place,
    CASE
      WHEN migrated AND (trusted OR rings AND NOT may_ring) THEN 1
      WHEN place IS NOT NULL AND trusted THEN 2
      WHEN place IS NOT NULL THEN 3
      WHEN migrated THEN 4
    END AS rank
  FROM named
),
ranked AS (
  SELECT
    oid,
    rank,
    min(rank) OVER () AS best,
    row_number() OVER (PARTITION BY rank ORDER BY place) AS turn
  FROM candidates
),
meant AS (
  SELECT oid, rank = 4 AS passed_over
  FROM ranked
  WHERE rank = best AND (rank <> 2 OR turn = 1)
  UNION ALL
  -- Not by to_regclass, which needs the privilege to use the schema.
  SELECT class.oid, false
  FROM pg_catalog.pg_class AS class
  WHERE strpos($1::text, '.') > 0
    AND relname = split_part($1::text, '.', 2)
    AND relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = split_part($1::text, '.', 1))
)
SELECT
  namespace.nspname AS schema,
  class.relname AS name,
  (
    SELECT has_schema_privilege(relnamespace, 'USAGE') AND has_table_privilege(versions.oid, 'SELECT')
    FROM pg_catalog.pg_class AS versions
    WHERE relname = 'alembic_version' AND relnamespace = to_regnamespace('reactor')
  ) AS revision_readable,
  pg_get_userbyid(class.relowner)::text AS owner,
  meant.passed_over
FROM meant
JOIN pg_catalog.pg_class AS class ON class.oid = meant.oid
JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = class.relnamespace
ORDER BY 1;
