-- The history: one row per purchase that ended, and one per attempt that ended without a purchase. Rows are only added,
-- and removed once they are old.
CREATE TABLE IF NOT EXISTS reactor.attempts (
  id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT attempts_pkey PRIMARY KEY,
  tokens_table text NOT NULL,
  key text NOT NULL,
  token_id numeric,
  epoch bigint NOT NULL,
  worker bigint,
  attempt integer,
  censored boolean NOT NULL DEFAULT false,
  claimed_at timestamptz,
  bought_at timestamptz,
  ended_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  outcome text NOT NULL CONSTRAINT attempts_outcome_check CHECK (
    outcome IN ('succeeded', 'retry', 'failed', 'released', 'rejected', 'rescued', 'lost', 'expired')
  ),
  error_type text,
  error text,
  model text,
  seed integer,
  prediction_id text,
  predict_seconds double precision,
  images integer,
  cost numeric,
  web_url text
) WITH (
  autovacuum_vacuum_scale_factor = 0.02,
  autovacuum_vacuum_threshold = 1000,
  autovacuum_vacuum_cost_delay = 0
);
