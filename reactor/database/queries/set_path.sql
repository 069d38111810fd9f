-- Sets the search path for as long as the session lasts.
-- $1 path  text
-- Returns it.
SELECT pg_catalog.set_config('search_path', $1::pg_catalog.text, false) AS path;
