-- Sets the search path for as long as the session lasts.
-- $1 path  text
-- Returns it.
SELECT set_config('search_path', $1::text, false) AS path;
