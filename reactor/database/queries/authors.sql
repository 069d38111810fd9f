-- Finds the owner of the authors table that prompts are read from, if we have no reason to trust that role.
-- $1 schema  text  of both tables
-- $2 tokens  text  the tokens table's name; the table may not exist yet
-- Returns owner; no row if the authors are trusted or missing. A stranger's view, policy or trigger would run as us.
-- We trust the authors of a trusted role, of the tokens' owner, and those that a foreign key of the tokens refers to,
-- because only the tokens' owner can have made that key.
-- Leans on the catalogue's own indexes.
WITH trusted AS MATERIALIZED ({trusted})
SELECT pg_get_userbyid(authors.relowner)::text AS owner
FROM trusted
CROSS JOIN pg_catalog.pg_namespace AS home
JOIN pg_catalog.pg_class AS authors ON authors.relnamespace = home.oid AND authors.relname = 'authors'
LEFT JOIN pg_catalog.pg_class AS tokens ON tokens.relnamespace = home.oid AND tokens.relname = $2::text
WHERE home.nspname = $1::text
  AND authors.relowner <> ALL (trusted.roles)
  AND authors.relowner IS DISTINCT FROM tokens.relowner
  AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_constraint WHERE contype = 'f' AND conrelid = tokens.oid AND confrelid = authors.oid
  );
