-- Finds the tokens table, and describes it as it is.
-- $1 tokens  text  as TOKENS_TABLE gives it: a name or schema.name; case counts
-- Returns one row per table that the name can mean: schema, name, owner and encoding (the database's); status_enum and
-- labels, if the status column is an enum; migrated, whether our columns and the intake exist; revision_readable, null
-- if there is no revision; triggered and triggers_enabled, whether both triggers exist, and are enabled; number_type,
-- the type of token_id; passed_over, whether we ignore the table.
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
  -- Quoted, because PostgreSQL would fold "Tokens" to tokens.
  SELECT to_regclass(string_agg(quote_ident(part), '.' ORDER BY position)), false
  FROM unnest(string_to_array($1::text, '.')) WITH ORDINALITY AS given (part, position)
  HAVING count(*) > 1
)
SELECT
  namespace.nspname AS schema,
  class.relname AS name,
  CASE WHEN type.typtype = 'e' THEN format('%I.%I', type_namespace.nspname, type.typname) END AS status_enum,
  ARRAY(
    SELECT enumlabel::text FROM pg_catalog.pg_enum WHERE enumtypid = type.oid ORDER BY enumsortorder
  ) AS labels,
  EXISTS (
    SELECT FROM pg_catalog.pg_attribute
    WHERE attrelid = class.oid AND attname = 'generation_epoch' AND NOT attisdropped
  ) AND to_regclass('reactor.intake') IS NOT NULL AS migrated,
  has_table_privilege(to_regclass('reactor.alembic_version'), 'SELECT') AS revision_readable,
  triggers.there = 2 AS triggered,
  triggers.enabled = 2 AS triggers_enabled,
  (
    SELECT format_type(atttypid, NULL)
    FROM pg_catalog.pg_attribute
    WHERE attrelid = class.oid AND attname = 'token_id' AND NOT attisdropped
  ) AS number_type,
  current_setting('server_encoding') AS encoding,
  pg_get_userbyid(class.relowner)::text AS owner,
  meant.passed_over
FROM meant
JOIN pg_catalog.pg_class AS class ON class.oid = meant.oid
JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = class.relnamespace
CROSS JOIN LATERAL (
  SELECT
    count(DISTINCT proname) AS there,
    count(DISTINCT proname) FILTER (WHERE tgenabled IN ('O', 'A')) AS enabled
  FROM pg_catalog.pg_trigger
  JOIN pg_catalog.pg_proc ON pg_proc.oid = tgfoid
  JOIN pg_catalog.pg_namespace AS home ON home.oid = pronamespace AND home.nspname = 'reactor'
  WHERE tgrelid = class.oid
) AS triggers
LEFT JOIN pg_catalog.pg_attribute AS status ON status.attrelid = class.oid AND status.attname = 'status'
LEFT JOIN pg_catalog.pg_type AS type ON type.oid = status.atttypid
LEFT JOIN pg_catalog.pg_namespace AS type_namespace ON type_namespace.oid = type.typnamespace
ORDER BY 1;
