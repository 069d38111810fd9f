-- Tells which of the server's processes answers. Behind a pooler it is not the one that the connection was told.
-- Returns pid.
-- It runs before the search path is pinned, so the name has its schema, and no operator is used.
SELECT pg_catalog.pg_backend_pid() AS pid;
