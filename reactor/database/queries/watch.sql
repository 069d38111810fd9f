-- Goes on watch, on the connection that listens: while a worker is on watch, mints ring, and this worker answers.
-- $1 channel  text     the wake channel: both locks are named after it, as in the triggers
-- $2 quiet    boolean  whether this connection holds the quiet lock, which is released
-- $3 tokens   text     the tokens table, quoted and with its schema
-- Returns upto: a transaction id above those of all transactions that may have found no worker on watch; null if
-- another session holds the lock. Then also the columns of parts/holders.sql.
-- The id is taken after the lock. It costs one of four billion, and no flush: nothing else is written.
WITH lock AS MATERIALIZED (
  SELECT
    hashtextextended($1::text, 0) AS key,
    $3::text AS tokens,
    NOT pg_try_advisory_lock(hashtextextended($1::text, 0)) AS refused
)
SELECT
  CASE WHEN NOT refused THEN pg_current_xact_id()::text::bigint END AS upto,
  CASE WHEN $2::boolean THEN pg_advisory_unlock(hashtextextended($1::text, 1)) END AS let_go,
  holders.ours,
  holders.strangers,
  holders.processes
FROM lock
CROSS JOIN {parts/holders};
