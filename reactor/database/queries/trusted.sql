-- Lists the roles that we trust: their code can run as us anyway, or they may act for us.
-- Returns roles, an array of oids: ourselves, superusers, the owners of the database and of schema reactor, and the
-- roles that we are a member of with their rights; and first_roles, the same without the owner of schema reactor,
-- because a role that may create schemas may have made that one before the migrations.
-- Other statements contain it, where they say "trusted" in braces.
--
-- A membership counts only if a superuser, the database's owner or a role with CREATEROLE granted it, because before
-- PostgreSQL 15 any role may grant itself to us.
WITH RECURSIVE us AS (
  SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user
  UNION
  SELECT membership.roleid
  FROM us
  JOIN pg_catalog.pg_auth_members AS membership ON membership.member = us.oid
  JOIN pg_catalog.pg_roles AS granter ON granter.oid = membership.grantor
  WHERE (
    granter.rolsuper
    OR granter.rolcreaterole
    OR granter.oid = (SELECT datdba FROM pg_catalog.pg_database WHERE datname = current_database())
  ) AND pg_has_role(membership.roleid, 'USAGE')
)
SELECT
  array_agg(oid) FILTER (WHERE trusted OR oid = (SELECT nspowner FROM pg_catalog.pg_namespace WHERE nspname = 'reactor'))
    AS roles,
  array_agg(oid) FILTER (WHERE trusted) AS first_roles
FROM (
  SELECT
    oid,
    rolsuper
    OR rolname = 'pg_database_owner'
    OR oid IN (SELECT oid FROM us)
    OR oid = (SELECT datdba FROM pg_catalog.pg_database WHERE datname = current_database()) AS trusted
  FROM pg_catalog.pg_roles
) AS role
