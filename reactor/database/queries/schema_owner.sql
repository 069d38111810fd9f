-- Tells who owns schema reactor, where that is a role that we have no reason to trust.
-- Returns owner; no row where the schema is missing or its owner is trusted. Its owner may put code of theirs into it.
-- Leans on the catalogue's own indexes.
SELECT pg_get_userbyid(nspowner)::text AS owner
FROM ({trusted}) AS trusted
CROSS JOIN pg_catalog.pg_namespace
WHERE nspname = 'reactor' AND nspowner <> ALL (trusted.first_roles);
