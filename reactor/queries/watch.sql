-- Goes on watch, on the connection that listens; whoever is on watch makes mints ring, and answers.
-- $1 channel  text     the wake channel: both locks are named after it, as in the triggers
-- $2 quiet    boolean  whether this connection holds the quiet lock, to be let go
-- Returns whether nobody else was on watch.
SELECT
  pg_try_advisory_lock(hashtextextended($1::text, 0)) AS taken,
  CASE WHEN $2::boolean THEN pg_advisory_unlock(hashtextextended($1::text, 1)) END AS let_go;
