-- The gate: one row, which every claim looks at.
CREATE TABLE IF NOT EXISTS reactor.intake (
  id boolean DEFAULT true CONSTRAINT intake_pkey PRIMARY KEY,
  paused_until timestamptz,
  pause_seconds double precision NOT NULL DEFAULT 0,
  reason text,
  arrival_at timestamptz,
  CONSTRAINT intake_one_row_check CHECK (id)
);
