-- Goes on watch, on the connection that listens; whoever is on watch makes mints ring, and answers.
-- $1 channel  text     the wake channel: both locks are named after it, as in the triggers
-- $2 quiet    boolean  whether this connection holds the quiet lock, to be let go
-- Returns upto: a transaction id above those of all that may have found nobody on watch; null where somebody else is.
-- The id is taken after the lock. It costs one of four billion, and no flush: nothing else is written.
SELECT
  CASE
    WHEN pg_try_advisory_lock(hashtextextended($1::text, 0)) THEN pg_current_xact_id()::text::bigint
  END AS upto,
  CASE WHEN $2::boolean THEN pg_advisory_unlock(hashtextextended($1::text, 1)) END AS let_go;
