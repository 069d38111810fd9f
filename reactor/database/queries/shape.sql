-- Describes the tokens table and its authors as the catalogue has them: shape.py maps our needs to it.
-- $1 schema  text
-- $2 name    text
-- Returns one row: kind (relkind); temporary; unfit, why no such table can be the queue;
-- owner_trusted; made, whether the migrations made it; primary_key, the names of its columns; columns, a JSON object by name;
-- status_enum and labels, if the status is an enum; status_default; mentions, what may name labels of a status that is a
-- text: its CHECKs, our own indexes, and the statistics of its values; authors_schema, authors_name, authors_key and
-- authors_columns of the table that author_id refers to, or else (then without a key) of `authors` beside the tokens;
-- indexes, the names of the valid ones; number_unique, whether token_id has a value of its own in every row, and an index;
-- migrated, whether our columns and the gate exist.
-- Leans on the catalogue's own indexes.
WITH trusted AS MATERIALIZED ({trusted}),
meant AS (
  SELECT
    class.oid,
    class.relkind,
    class.relpersistence,
    namespace.oid AS home,
    class.relowner = ANY (trusted.roles) AS owner_trusted,
    CASE
      WHEN class.relispartition THEN 'is a partition'
      WHEN class.relhasrules THEN 'has rules'
      WHEN EXISTS (SELECT FROM pg_catalog.pg_inherits WHERE class.oid IN (inhrelid, inhparent)) THEN 'inherits'
    END AS unfit
  FROM trusted
  CROSS JOIN pg_catalog.pg_class AS class
  JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = class.relnamespace
  WHERE namespace.nspname = $1::text AND class.relname = $2::text
),
-- Not materialized: else it would describe every column of the database.
attributes AS NOT MATERIALIZED (
  SELECT attrelid, attnum, attname::text AS name, jsonb_build_object(
    'type', replace(format_type(atttypid, NULL), '"', ''),  -- quoted, if quote_all_identifiers is on
    'length', CASE WHEN atttypid IN ('varchar'::regtype, 'bpchar'::regtype) AND atttypmod > 4 THEN atttypmod - 4 END,
    'nullable', NOT attnotnull,
    'generated', attgenerated <> '' OR attidentity = 'a',
    'has_default', atthasdef OR attidentity <> '',
    'readable', CASE WHEN attname = 'traceparent' THEN has_column_privilege(attrelid, attnum, 'SELECT') END,
    'ours', coalesce(col_description(attrelid, attnum) = 'made by reactor', false)
  ) AS facts
  FROM pg_catalog.pg_attribute
  WHERE attnum > 0 AND NOT attisdropped
),
authors AS (
  SELECT
    class.oid,
    namespace.nspname,
    class.relname,
    (SELECT name FROM attributes WHERE attrelid = class.oid AND attnum = reference.confkey[1]) AS key
  FROM meant
  CROSS JOIN pg_catalog.pg_class AS class
  JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = class.relnamespace
  LEFT JOIN pg_catalog.pg_constraint AS reference ON reference.contype = 'f'
    AND reference.conrelid = meant.oid
    AND reference.confrelid = class.oid
    AND reference.conkey = ARRAY(SELECT attnum FROM attributes WHERE attrelid = meant.oid AND name = 'author_id')
  WHERE reference.oid IS NOT NULL OR (class.relnamespace = meant.home AND class.relname = 'authors')
  ORDER BY reference.oid IS NULL, reference.conname
  LIMIT 1
)
SELECT
  meant.relkind::text AS kind,
  meant.relpersistence = 't' AS temporary,
  meant.unfit,
  meant.owner_trusted,
  coalesce(obj_description(meant.oid, 'pg_class') = 'made by reactor', false) AS made,
  ARRAY(
    SELECT name
    FROM pg_catalog.pg_index
    CROSS JOIN unnest(indkey::smallint[]) WITH ORDINALITY AS part (number, place)
    JOIN attributes ON attrelid = indrelid AND attnum = part.number
    WHERE indrelid = meant.oid AND indisprimary
    ORDER BY place
  ) AS primary_key,
  (SELECT jsonb_object_agg(name, facts) FROM attributes WHERE attrelid = meant.oid)::text AS columns,
  CASE WHEN type.typtype = 'e' THEN format('%I.%I', type_namespace.nspname, type.typname) END AS status_enum,
  ARRAY(
    SELECT enumlabel::text FROM pg_catalog.pg_enum WHERE enumtypid = type.oid ORDER BY enumsortorder
  ) AS labels,
  (
    SELECT pg_get_expr(adbin, adrelid) FROM pg_catalog.pg_attrdef WHERE adrelid = meant.oid AND adnum = status.attnum
  ) AS status_default,
  ARRAY(
    SELECT pg_get_expr(conbin, conrelid)
    FROM pg_catalog.pg_constraint
    WHERE conrelid = meant.oid AND contype = 'c' AND status.attnum = ANY (conkey)
    UNION ALL
    SELECT pg_get_expr(indpred, indrelid)
    FROM pg_catalog.pg_index
    JOIN pg_catalog.pg_class AS ours ON ours.oid = indexrelid AND ours.relname ~ '_generation_(fresh|failed)$'
    WHERE indrelid = meant.oid
    UNION ALL
    SELECT quote_literal(value)
    FROM pg_catalog.pg_stats
    CROSS JOIN unnest(most_common_vals::text::text[]) AS common (value)
    WHERE schemaname = $1::text AND tablename = $2::text AND attname = 'status'
  ) AS mentions,
  authors.nspname AS authors_schema,
  authors.relname AS authors_name,
  authors.key AS authors_key,
  (SELECT jsonb_object_agg(name, facts) FROM attributes WHERE attrelid = authors.oid)::text AS authors_columns,
  ARRAY(
    SELECT relname::text
    FROM pg_catalog.pg_index
    JOIN pg_catalog.pg_class ON pg_class.oid = indexrelid
    WHERE indrelid = meant.oid AND indisvalid
  ) AS indexes,
  EXISTS (
    SELECT
    FROM pg_catalog.pg_index
    JOIN attributes ON attrelid = indrelid AND attnum = indkey[0]
    WHERE indrelid = meant.oid AND name = 'token_id' AND NOT (facts -> 'nullable')::boolean
      AND indisvalid AND indisunique AND indimmediate AND indnkeyatts = 1 AND indpred IS NULL
  ) AS number_unique,
  EXISTS (SELECT FROM attributes WHERE attrelid = meant.oid AND name = 'generation_epoch')
    AND EXISTS (
      SELECT FROM pg_catalog.pg_class WHERE relname = 'intake' AND relnamespace = to_regnamespace('reactor')
    ) AS migrated,
  triggers.there = 2 AS triggered,
  triggers.enabled = 2 AS triggers_enabled
FROM meant
LEFT JOIN authors ON true
LEFT JOIN pg_catalog.pg_attribute AS status
  ON status.attrelid = meant.oid AND status.attname = 'status' AND NOT status.attisdropped
LEFT JOIN pg_catalog.pg_type AS type ON type.oid = status.atttypid
LEFT JOIN pg_catalog.pg_namespace AS type_namespace ON type_namespace.oid = type.typnamespace
CROSS JOIN LATERAL (
  SELECT
    count(DISTINCT proname) AS there,
    count(DISTINCT proname) FILTER (WHERE tgenabled IN ('O', 'A')) AS enabled
  FROM pg_catalog.pg_trigger
  JOIN pg_catalog.pg_proc ON pg_proc.oid = tgfoid
  JOIN pg_catalog.pg_namespace AS home ON home.oid = pronamespace AND home.nspname = 'reactor'
  WHERE tgrelid = meant.oid
) AS triggers;
