-- Finds the schema for a new table whose name gives none: the first of the search path that the session inherited.
-- Returns schema; null if that path has no schema that exists.
SELECT (coalesce(nullif(current_setting('reactor.path', true), '')::text[], current_schemas(false)::text[]))[1] AS schema;
