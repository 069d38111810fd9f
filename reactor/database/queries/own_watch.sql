-- Starts or ends a watch of this worker's own, while strangers hold the lock of the common one: mints ring for it too.
-- $1 channel  text     the wake channel
-- $2 key      integer  random, so that no stranger can hold this lock before
-- $3 keep     boolean  false: end it
-- Returns upto, as watch.sql does; null if the watch was ended, or a stranger has the key after all.
SELECT
  CASE
    WHEN NOT $3::boolean THEN CASE WHEN pg_advisory_unlock(hashtext($1::text), $2::integer) THEN NULL::bigint END
    WHEN pg_try_advisory_lock(hashtext($1::text), $2::integer) THEN pg_current_xact_id()::text::bigint
  END AS upto;
