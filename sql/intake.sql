-- The gate: one row, which every claim reads.
CREATE TABLE IF NOT EXISTS reactor.intake (
  id boolean DEFAULT true CONSTRAINT intake_pkey PRIMARY KEY,
  paused_until timestamptz,
  pause_seconds double precision NOT NULL DEFAULT 0,
  reason text,
  arrival_at timestamptz,
  opens_on text CONSTRAINT intake_opens_on_check CHECK (opens_on IN ('image', 'check', 'time')),
  limit_interval double precision,
  limited_until timestamptz,
  refused_token text,
  check_wait double precision,
  check_at timestamptz,
  serves_from text NOT NULL DEFAULT '0009',
  CONSTRAINT intake_one_row_check CHECK (id)
);
