-- Tells how the tokens table really looks.
-- $1 tokens  text  as TOKENS_TABLE gives it: a name or schema.name; case counts
-- Returns one row per table that can be meant: schema, name, the status column's enum and its labels where it is one;
-- whether our columns and the intake are there, whether the revision can be read (null: there is none), whether both
-- triggers are there, and whether both are enabled; the type of token_id; the database's encoding.
-- A name alone means the migrated tables of that name, whatever the search path is; the path decides where there is none.
-- A copy of the rows (CREATE TABLE AS) has our columns, but neither the migrations' mark nor a trigger.
-- Leans on the catalogue's own indexes.
WITH path AS (
  SELECT schema, place
  FROM unnest(coalesce(nullif(current_setting('reactor.path', true), '')::text[], current_schemas(false)::text[]))
    WITH ORDINALITY AS inherited (schema, place)
),
named AS (
  SELECT class.oid
  FROM pg_catalog.pg_class AS class
  JOIN pg_catalog.pg_attribute AS ours ON ours.attrelid = class.oid AND ours.attname = 'generation_epoch'
  WHERE class.relname = $1::text
    AND class.relkind IN ('r', 'p')
    AND class.relpersistence <> 't'
    AND NOT ours.attisdropped
    AND (
      'made by reactor' IN (obj_description(class.oid, 'pg_class'), col_description(class.oid, ours.attnum))
      OR EXISTS (
        SELECT
        FROM pg_catalog.pg_trigger
        JOIN pg_catalog.pg_proc ON pg_proc.oid = tgfoid
        JOIN pg_catalog.pg_namespace AS home ON home.oid = pronamespace AND home.nspname = 'reactor'
        WHERE tgrelid = class.oid
      )
    )
),
meant AS (
  SELECT oid FROM named
  UNION ALL
  SELECT CASE
    -- Quoted, or PostgreSQL would fold "Tokens" to tokens.
    WHEN count(*) > 1 THEN to_regclass(string_agg(quote_ident(part), '.' ORDER BY position))
    ELSE (
      SELECT class.oid
      FROM path
      JOIN pg_catalog.pg_namespace AS home ON home.nspname = path.schema
      JOIN pg_catalog.pg_class AS class ON class.relnamespace = home.oid AND class.relname = $1::text
      ORDER BY place
      LIMIT 1
    )
  END
  FROM unnest(string_to_array($1::text, '.')) WITH ORDINALITY AS given (part, position)
  HAVING NOT EXISTS (SELECT FROM named)
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
  current_setting('server_encoding') AS encoding
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
