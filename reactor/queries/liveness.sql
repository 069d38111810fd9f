-- Takes the lock that says this worker lives, on the listener's connection; it is let go when that connection ends.
-- $1 worker  bigint
-- Returns whether it was taken.
SELECT pg_try_advisory_lock($1::bigint) AS taken;
