-- A role for KEDA's scaler, which may only count. Run it once, after `reactor migrate`, as the owner of the tables who
-- may create roles, or as a superuser. The worker's role is made by sql/roles.sql.
--   psql -v ON_ERROR_STOP=1 -f deploy/postgres/scaler.sql DATABASE
-- The role has no password: set one with psql's \password.
--
-- Run: tests/test_deploy.py, on an embedded PostgreSQL: the queries of kubernetes/keda.yaml run with the role. Not run:
-- on a managed PostgreSQL.
CREATE ROLE reactor_scaler LOGIN CONNECTION LIMIT 4;
GRANT USAGE ON SCHEMA public, reactor TO reactor_scaler;
GRANT SELECT (id, status, mint_timestamp, generation_due_at, generation_epoch) ON tokens_s0 TO reactor_scaler;
GRANT SELECT (paused_until) ON reactor.intake TO reactor_scaler;
ALTER ROLE reactor_scaler SET default_transaction_read_only = on;
ALTER ROLE reactor_scaler SET statement_timeout = '5s';
