-- Pins the search path, and remembers the schemas that were on it: a name without a schema is still looked up there.
-- $1 local  boolean  only for this transaction: a pooler's session is not ours alone
-- Returns inherited (the setting as it was) and schemas (those that it named and that exist, as an array's text).
-- It runs under whatever path there is: so everything is named with its schema, and there is no operator.
SELECT
  pg_catalog.current_setting('search_path') AS inherited,
  pg_catalog.set_config('reactor.path', pg_catalog.current_schemas(false)::pg_catalog.text, $1::boolean) AS schemas,
  pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', $1::boolean) AS pinned;
