-- Counts the transactions that were writing before the watch was taken and have not ended.
-- $1 upto  bigint  a transaction id above theirs, from watch.sql
-- Returns transactions. Those of other databases count too, and prepared ones.
-- The transaction that got $1 must be over, because a snapshot lists running ones only below the last that ended.
SELECT count(*) AS transactions
FROM pg_snapshot_xip(pg_current_snapshot()) AS running (id)
WHERE running.id::text::bigint < $1::bigint;
