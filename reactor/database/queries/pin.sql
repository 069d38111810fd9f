-- Pins the search path, and keeps the schemas that were on it, because a table's name may come without a schema.
-- $1 local  boolean  only for this transaction: a pooler's session is not ours alone
-- Returns inherited (the setting as it was) and schemas (those that it named and that exist, as an array's text).
-- It runs under the inherited path, so every name has its schema, and no operator is used.
SELECT
  pg_catalog.current_setting('search_path') AS inherited,
  pg_catalog.set_config('reactor.path', pg_catalog.current_schemas(false)::pg_catalog.text, $1::boolean) AS schemas,
  pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', $1::boolean) AS pinned;
