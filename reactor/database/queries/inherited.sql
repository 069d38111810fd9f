-- Reads what a new connection inherited from role, database and server, and overrides what startup parameters cannot.
-- $1 direct  boolean  whether the session is ours alone: only then settings are overridden, until it ends
-- Returns durable (whether a commit survives a crash of the server), read_committed, read_only.
-- A stricter synchronous_commit (remote_apply) stays. Older servers have no transaction_timeout.
SELECT
  CASE
    WHEN current_setting('synchronous_commit') <> 'off' THEN true
    WHEN $1::boolean THEN set_config('synchronous_commit', 'on', false) = 'on'
    ELSE false
  END AS durable,
  current_setting('transaction_isolation') = 'read committed' AS read_committed,
  current_setting('transaction_read_only')::boolean AS read_only,
  CASE
    WHEN $1::boolean AND current_setting('transaction_timeout', true) <> '0'
      THEN set_config('transaction_timeout', '0', false)
  END AS no_longer_limited;
