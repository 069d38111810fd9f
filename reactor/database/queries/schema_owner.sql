-- Finds the owner of schema reactor, if we have no reason to trust that role.
-- Returns owner; no row if the schema is missing or its owner is trusted. An owner can put code of its own into it.
-- Leans on the catalogue's own indexes.
SELECT pg_get_userbyid(nspowner)::text AS owner
FROM ({trusted}) AS trusted
CROSS JOIN pg_catalog.pg_namespace
WHERE nspname = 'reactor' AND nspowner <> ALL (trusted.first_roles);
