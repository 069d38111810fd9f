-- Tells how the tokens table really looks.
-- $1 tokens  text  as TOKENS_TABLE gives it: a name or schema.name; case counts
-- Returns one row per table that can be meant: schema, name, the status column's enum and its labels where it is one;
-- whether our columns and the intake are there, whether the revision can be read (null: there is none), whether both
-- triggers are there, and whether both are enabled; the type of token_id; the database's encoding; the owner, and whether
-- the table is one that we pass over.
--
-- Any role that may create a table can give it our columns and our mark. So a name alone means, in this order:
-- 1. the migrated tables of that name, wherever they are, if a role that we trust owns them; or if they have one of our
--    triggers and their owner cannot have made it, for want of rights in schema reactor: a superuser migrated them;
-- 2. the first table of the search path that a role which we trust owns;
-- 3. the tables of the search path, of whatever role: a host's table, which we serve with rights on it.
-- Where there is none of these, 4 names the strangers' marked tables, which are passed over.
-- With a schema the name means that table, of whatever role.
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
  -- Quoted, or PostgreSQL would fold "Tokens" to tokens.
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
