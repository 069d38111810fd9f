-- Finds the owner of the authors table that prompts are read from, if we have no reason to trust that role.
-- $1 schema  text  of the authors
-- $2 name    text  of the authors
-- $3 home    text  the schema of the tokens table, which may not exist yet
-- $4 tokens  text  its name
-- Returns owner; no row if the authors are trusted or missing. A stranger's view, policy or trigger would run as us.
-- We trust the authors of a trusted role, of the tokens' owner, and those that a foreign key of the tokens refers to,
-- because only the tokens' owner can have made that key.
-- Leans on the catalogue's own indexes.
WITH trusted AS MATERIALIZED ({trusted})
SELECT pg_get_userbyid(authors.relowner)::text AS owner
FROM trusted
CROSS JOIN pg_catalog.pg_namespace AS home
JOIN pg_catalog.pg_class AS authors ON authors.relnamespace = home.oid AND authors.relname = $2::text
LEFT JOIN pg_catalog.pg_class AS tokens ON tokens.relname = $4::text
  AND tokens.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = $3::text)
WHERE home.nspname = $1::text
  AND authors.relowner <> ALL (trusted.roles)
  AND authors.relowner IS DISTINCT FROM tokens.relowner
  AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_constraint WHERE contype = 'f' AND conrelid = tokens.oid AND confrelid = authors.oid
  );
