-- Tells where row security holds for our role, and so may hide rows.
-- $1 schemas  text[]     of tables
-- $2 names    text[]     in the order of $1
-- $3 written  boolean[]  whether we also update rows, in the order of $1
-- Returns object and role, as SQL names them, for each table where it holds, in the order of $1; and all_hidden, whether
-- no policy shows this role any row that it may also write. It does not hold for superusers, roles with BYPASSRLS and,
-- unless it is forced, the table's owner.
-- Leans on the catalogue's own indexes.
SELECT
  format('%I.%I', home.nspname, relname) AS object,
  quote_ident(current_user) AS role,
  NOT coalesce(shown, false) OR written AND NOT coalesce(changeable, false) AS all_hidden
FROM unnest($1::text[], $2::text[], $3::boolean[]) WITH ORDINALITY AS given (schema, name, written, place)
JOIN pg_catalog.pg_namespace AS home ON home.nspname = given.schema
JOIN pg_catalog.pg_class ON relnamespace = home.oid AND relname = given.name
CROSS JOIN LATERAL (
  SELECT bool_or(polcmd IN ('*', 'r')) AS shown, bool_or(polcmd IN ('*', 'w')) AS changeable
  FROM pg_catalog.pg_policy
  WHERE polrelid = pg_class.oid
    AND polpermissive
    AND EXISTS (SELECT FROM unnest(polroles) AS whose WHERE CASE whose WHEN 0 THEN true ELSE pg_has_role(whose, 'USAGE') END)
) AS policies
WHERE row_security_active(pg_class.oid)
ORDER BY place;
