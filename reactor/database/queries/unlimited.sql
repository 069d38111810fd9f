-- Lifts the limits that role or database set for a session, because a migration waits for others and builds indexes.
-- It also sets how literals are read, and that row security raises an error instead of hiding rows from --down.
-- $1 lock_timeout  text  the one limit that stays: while we wait for a lock, all other sessions wait behind us
-- Returns a row for each setting. Older servers have no transaction_timeout.
SELECT set_config(
  name,
  CASE name
    WHEN 'lock_timeout' THEN $1::text
    WHEN 'row_security' THEN 'off'
    WHEN 'standard_conforming_strings' THEN 'on'
    ELSE '0'
  END,
  false
)
FROM pg_catalog.pg_settings
WHERE name IN (
  'row_security',
  'standard_conforming_strings',
  'lock_timeout',
  'statement_timeout',
  'transaction_timeout',
  'idle_session_timeout',
  'idle_in_transaction_session_timeout'
);
