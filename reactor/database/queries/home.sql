-- Tells where a table is made whose name says no schema: in the first of the search path that the session inherited.
-- Returns schema; null where that path names no schema that exists.
SELECT (coalesce(nullif(current_setting('reactor.path', true), '')::text[], current_schemas(false)::text[]))[1] AS schema;
