-- Computes the search path that is safe for sessions in which the host's triggers run.
-- $1 tokens  text  the tokens table, quoted and with its schema; null: there is none yet
-- Returns path: the schemas that the session inherited (see pin.sql), except those in which a role that we do not trust
-- may create, or owns a function, an operator, a relation or a type. We trust the roles of trusted.sql and the table's
-- owner. A host's trigger that inserts into `audit` must not find a stranger's table: its triggers would run as us.
-- Leans on nothing: it reads four catalogues once.
WITH trusted AS MATERIALIZED (
  -- Not to_regclass, which needs the privilege to use the schema.
  SELECT roles || ARRAY(
    SELECT relowner
    FROM pg_catalog.pg_class
    WHERE relname = (parse_ident($1::text))[2]
      AND relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = (parse_ident($1::text))[1])
  ) AS roles
  FROM ({trusted}) AS trusted
)
SELECT coalesce(string_agg(quote_ident(home.nspname), ', ' ORDER BY place), 'pg_catalog') || ', pg_temp' AS path
FROM trusted
CROSS JOIN unnest(
  coalesce(nullif(current_setting('reactor.path', true), '')::text[], current_schemas(false)::text[])
) WITH ORDINALITY AS inherited (schema, place)
JOIN pg_catalog.pg_namespace AS home ON home.nspname = inherited.schema
WHERE NOT starts_with(home.nspname::text, 'pg_')
  AND home.nspowner = ANY (trusted.roles)
  AND NOT EXISTS (
    SELECT
    FROM aclexplode(home.nspacl)
    WHERE privilege_type = 'CREATE' AND grantee <> ALL (trusted.roles)
  )
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_proc WHERE pronamespace = home.oid AND proowner <> ALL (trusted.roles))
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_operator WHERE oprnamespace = home.oid AND oprowner <> ALL (trusted.roles))
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_class WHERE relnamespace = home.oid AND relowner <> ALL (trusted.roles))
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_type WHERE typnamespace = home.oid AND typowner <> ALL (trusted.roles));
