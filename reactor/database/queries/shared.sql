-- Tells what is there of the objects that all tokens tables share.
-- $1 functions  text[]  names of functions in schema reactor
-- $2 bodies     text[]  their bodies, in the order of $1
-- $3 columns    text[]  of the gate
-- Returns schema, whether schema reactor exists; versions, whether Alembic's version table does; and complete, whether
-- the gate, the history and all functions do, as they should be: a function runs as its caller, with a pinned search
-- path.
-- Leans on the catalogue's own indexes.
SELECT
  to_regnamespace('reactor') IS NOT NULL AS schema,
  to_regclass('reactor.alembic_version') IS NOT NULL AS versions,
  $3::text[] <@ ARRAY(
    SELECT attname::text FROM pg_catalog.pg_attribute WHERE attrelid = to_regclass('reactor.intake') AND NOT attisdropped
  ) AND to_regclass('reactor.attempts') IS NOT NULL AND NOT EXISTS (
    SELECT
    FROM unnest($1::text[], $2::text[]) AS wanted (name, body)
    WHERE NOT EXISTS (
      SELECT
      FROM pg_catalog.pg_proc
      WHERE pronamespace = to_regnamespace('reactor')
        AND proname = wanted.name
        AND prosrc = wanted.body
        AND proconfig = ARRAY['search_path=pg_catalog, pg_temp']
        AND NOT prosecdef
    )
  ) AS complete;
