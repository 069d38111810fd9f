-- Finds those of some privileges that our role lacks.
-- $1 privileges  text[]  USAGE of a schema, EXECUTE of a function, SELECT or UPDATE of a column, or one of a table
-- $2 schemas     text[]  in the order of $1
-- $3 objects     text[]  in the order of $1: a table, or a function of pg_catalog; null for a schema
-- $4 columns     text[]  in the order of $1: null for a schema, a function or a whole table
-- Returns for each that is missing, in that order: privilege, object, column and role, the last three as GRANT names
-- them. Of an object or a column that does not exist nothing is missing.
-- Leans on the catalogue's own indexes. No name is looked up as regclass, which fails without USAGE of the schema.
SELECT
  privilege,
  CASE privilege
    WHEN 'USAGE' THEN format('SCHEMA %I', home.nspname)
    WHEN 'EXECUTE' THEN 'FUNCTION pg_catalog.' || object
    ELSE format('%I.%I', home.nspname, relname)
  END AS object,
  quote_ident(attname) AS column,
  quote_ident(current_user) AS role
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY
  AS given (privilege, schema, object, wanted, place)
JOIN pg_catalog.pg_namespace AS home ON home.nspname = given.schema
LEFT JOIN pg_catalog.pg_class ON relnamespace = home.oid AND relname = given.object
LEFT JOIN pg_catalog.pg_attribute ON attrelid = pg_class.oid AND attname = given.wanted AND NOT attisdropped
WHERE NOT coalesce(
  CASE privilege
    WHEN 'USAGE' THEN has_schema_privilege(home.oid, privilege)
    WHEN 'EXECUTE' THEN has_function_privilege('pg_catalog.' || object, privilege)
    ELSE CASE
      WHEN wanted IS NULL THEN has_table_privilege(pg_class.oid, privilege)
      ELSE has_column_privilege(pg_class.oid, attnum, privilege)
    END
  END,
  true
)
ORDER BY place;
