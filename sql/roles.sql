-- Four roles with as few privileges as each needs. For psql, as a superuser; it may be run again, also after each new
-- column or table, and changes no row:
--
--     psql "$DATABASE_URL" -f sql/roles.sql
--     psql "$DATABASE_URL" -v table=app.tokens -v authors=app.users -v worker=imagery -f sql/roles.sql
--
--     reactor_owner     owns schema reactor and the tables that `reactor migrate` made; nobody logs in as it
--     reactor_migrator  reactor migrate, reactor doctor: works as the owner
--     reactor_worker    reactor run, retry, pause, resume, doctor, audit
--     reactor_reader    reactor status, show, doctor, audit
--
-- What PROMPT_SQL reads of the tokens: -v prompt_columns=title,traits. Of other tables: GRANT SELECT yourself.
-- In a new database run it, then `reactor migrate` as the migrator, then run it again for the columns that there are now.
-- Give passwords by \password. The producer's role is yours: INSERT on the tokens, without the generation_ columns.
-- A table that belongs to another role of yours stays its own; that role is granted to the owner, so that migrations may
-- change it. A superuser's is not: then `reactor migrate` needs a superuser, or ALTER TABLE ... OWNER TO reactor_owner.
\set ON_ERROR_STOP on
\set QUIET on
\if :{?table} \else \set table tokens_s0 \endif
\if :{?authors} \else \set authors authors \endif
\if :{?prompt_columns} \else \set prompt_columns '' \endif
\if :{?owner} \else \set owner reactor_owner \endif
\if :{?migrator} \else \set migrator reactor_migrator \endif
\if :{?worker} \else \set worker reactor_worker \endif
\if :{?reader} \else \set reader reactor_reader \endif

SELECT format('CREATE ROLE %I %s', name, ability)
FROM (VALUES (:'owner', 'NOLOGIN'), (:'migrator', 'LOGIN'), (:'worker', 'LOGIN'), (:'reader', 'LOGIN')) AS wanted (name, ability)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec

-- The schema that the tokens are in, or will be.
SELECT
  coalesce(
    (SELECT nspname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE pg_class.oid = to_regclass(:'table')),
    CASE WHEN strpos(:'table', '.') > 0 THEN (parse_ident(:'table'))[1] ELSE current_schema() END
  ) AS home,
  to_regclass(:'table') IS NOT NULL AND to_regnamespace('reactor') IS NOT NULL AS migrated,
  current_database() AS database \gset

-- The owner makes schema reactor, and indexes beside the tokens. The migrator works as the owner, so that all is the owner's.
-- Whoever runs this script trusts the owner: `reactor migrate` refuses a schema of a role that it has no reason to trust.
GRANT CREATE ON DATABASE :"database" TO :"owner";
GRANT USAGE, CREATE ON SCHEMA :"home" TO :"owner";
GRANT :"owner" TO :"migrator", CURRENT_USER;
ALTER ROLE :"migrator" IN DATABASE :"database" SET role = :'owner';

-- What a superuser has migrated before becomes the owner's.
SELECT format('ALTER SCHEMA reactor OWNER TO %I', :'owner') WHERE to_regnamespace('reactor') IS NOT NULL
UNION ALL
SELECT format('ALTER TABLE reactor.%I OWNER TO %I', relname, :'owner')
FROM pg_class WHERE relnamespace = to_regnamespace('reactor') AND relkind = 'r'
UNION ALL
SELECT format('ALTER FUNCTION reactor.%I() OWNER TO %I', proname, :'owner')
FROM pg_proc WHERE pronamespace = to_regnamespace('reactor')
UNION ALL
SELECT format('ALTER TABLE %s OWNER TO %I', oid::regclass, :'owner')
FROM pg_class
WHERE oid IN (to_regclass(:'table'), to_regclass(:'authors')) AND obj_description(oid, 'pg_class') = 'made by reactor' \gexec

SELECT DISTINCT format('GRANT %I TO %I', rolname, :'owner')
FROM pg_class
JOIN pg_roles ON pg_roles.oid = relowner
WHERE pg_class.oid IN (to_regclass(:'table'), to_regclass(:'authors')) AND NOT rolsuper AND rolname <> :'owner' \gexec

\if :migrated
-- Worker and reader see the same: of the tokens, the columns that the worker reads.
SELECT format('GRANT USAGE ON SCHEMA %I TO %I', schema, role)
FROM (
  SELECT 'reactor' AS schema
  UNION SELECT :'home'
  UNION SELECT nspname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE pg_class.oid = to_regclass(:'authors')
  UNION SELECT nspname
  FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid JOIN pg_namespace ON pg_namespace.oid = typnamespace
  WHERE attrelid = to_regclass(:'table') AND attname = 'status' AND nspname <> 'pg_catalog'
) AS schemas, unnest(ARRAY[:'worker', :'reader']) AS role
UNION ALL
SELECT format('GRANT SELECT (%I) ON %s TO %I', attname, attrelid::regclass, role)
FROM pg_attribute, unnest(ARRAY[:'worker', :'reader']) AS role
WHERE NOT attisdropped AND attnum > 0 AND (
  attrelid = to_regclass(:'table') AND (
    attname IN ('token_id', 'mint_timestamp', 'detected_at', 'created_at', 'author_id', 'status', 'image_url', 'traceparent')
    OR attname LIKE 'generation\_%'
    OR attnum IN (SELECT unnest(indkey::smallint[]) FROM pg_index WHERE indrelid = attrelid AND indisprimary)
    OR attname IN ('prompt', 'prompt_text') AND to_regclass(:'authors') IS NULL
    OR attname = ANY (string_to_array(:'prompt_columns', ','))
  )
  OR attrelid = to_regclass(:'authors') AND attname IN ('id', 'author_id', 'prompt_text')
) \gexec
GRANT SELECT ON reactor.alembic_version, reactor.intake, reactor.attempts TO :"worker", :"reader";

-- The worker writes the result and our own columns, the gate, and the history, which it also prunes.
SELECT format('GRANT UPDATE (%I) ON %s TO %I', attname, attrelid::regclass, :'worker')
FROM pg_attribute
WHERE attrelid = to_regclass(:'table') AND NOT attisdropped AND (attname IN ('status', 'image_url') OR attname LIKE 'generation\_%') \gexec
GRANT UPDATE (paused_until, pause_seconds, reason, arrival_at, opens_on, limit_interval, limited_until, refused_token, check_wait, check_at,
  budget_day, budget_bought, budget_closed) ON reactor.intake TO :"worker";
GRANT INSERT, DELETE ON reactor.attempts TO :"worker";
\else
\echo 'Next: reactor migrate as' :migrator', then this script again.'
\endif

-- Who else may see how long other roles' transactions have been open, for `reactor doctor`: your choice.
-- GRANT pg_read_all_stats TO reactor_reader;
