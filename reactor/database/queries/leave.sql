-- Leaves the watch to another worker, and rings the fleet's bell on commit; takes or releases the quiet lock.
-- $1 channel       text     the wake channel: both locks are named after it, as in the triggers
-- $2 bell_channel  text     every worker listens to it; one that wants the watch tries to take it
-- $3 watching      boolean  whether this connection is on watch
-- $4 quiet         boolean  whether it holds the quiet lock
-- $5 hush          boolean  whether it should hold the quiet lock: mints need not ring for this worker
-- $6 tokens        text     the tokens table, quoted and with its schema
-- Returns quiet: whether it holds the quiet lock now. If it should and does not: the columns of parts/holders.sql.
-- A full NOTIFY queue would fail the commit and cost the listener, so nothing is sent once it is half full: the other
-- workers soon try by themselves.
WITH kept AS MATERIALIZED (
  SELECT CASE
    WHEN $4::boolean AND NOT $5::boolean THEN NOT pg_advisory_unlock(hashtextextended($1::text, 1))
    WHEN $5::boolean AND NOT $4::boolean THEN pg_try_advisory_lock(hashtextextended($1::text, 1))
    ELSE $4::boolean
  END AS quiet
),
lock AS (
  SELECT
    hashtextextended($1::text, 1) AS key,
    $6::text AS tokens,
    $5::boolean AND NOT quiet AS refused,
    quiet
  FROM kept
)
SELECT
  quiet,
  CASE WHEN $3::boolean THEN pg_advisory_unlock(hashtextextended($1::text, 0)) END AS left_watch,
  CASE WHEN $3::boolean AND pg_notification_queue_usage() < 0.5 THEN pg_notify($2::text, '') END AS notified,
  holders.ours,
  holders.strangers,
  holders.processes
FROM lock
CROSS JOIN {parts/holders};
