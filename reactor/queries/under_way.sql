-- Tells of the transactions that are writing at this moment.
-- $1 since  bigint  an `upto` of before; null: none
-- Returns upto, a transaction id that is above those of all that have begun; and over: whether none is left that is
-- below $1, or none at all where that is null.
SELECT
  pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS upto,
  pg_snapshot_xmin(pg_current_snapshot())::text::bigint
    >= coalesce($1::bigint, pg_snapshot_xmax(pg_current_snapshot())::text::bigint) AS over;
