-- Leaves the watch to another worker, and tells the fleet as that commits; takes the quiet lock or lets it go.
-- $1 channel       text     the wake channel: both locks are named after it, as in the triggers
-- $2 bell_channel  text     heard by whoever has a free slot
-- $3 watching      boolean  whether this connection is on watch
-- $4 quiet         boolean  whether it holds the quiet lock
-- $5 hush          boolean  whether mints need not ring on this worker's account
-- Returns whether it holds the quiet lock now.
-- A full NOTIFY queue would fail the commit, and cost the listener: then nobody is told, and the others soon try by
-- themselves.
SELECT
  CASE
    WHEN $4::boolean AND NOT $5::boolean THEN NOT pg_advisory_unlock(hashtextextended($1::text, 1))
    WHEN $5::boolean AND NOT $4::boolean THEN pg_try_advisory_lock(hashtextextended($1::text, 1))
    ELSE $4::boolean
  END AS quiet,
  CASE WHEN $3::boolean THEN pg_advisory_unlock(hashtextextended($1::text, 0)) END AS left_watch,
  CASE WHEN $3::boolean AND pg_notification_queue_usage() < 0.5 THEN pg_notify($2::text, '') END AS told;
