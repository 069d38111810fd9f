-- Counts the tokens among the next ones whose image is gone unused.
-- $1 begin_at  text              see parts/expired.sql, as all that follow
-- $2 rows      integer           uploading tokens to look at
-- $3 matching  text              see parts/matches.sql; null: any
-- $4 since     double precision  seconds; null: any
-- $5 begin     key
-- $6 kept      double precision  seconds
-- Returns one row: tokens; and next_at and next, where the next step begins, null at the end.
-- Leans on the partial index WHERE status = 'uploading', and on the history's index of keys.
WITH {parts/expired}
SELECT
  (SELECT count(*) FROM rows WHERE place <= $2::integer AND wanted) AS tokens,
  (SELECT seeded_at::text FROM rows WHERE place > $2::integer) AS next_at,
  (SELECT key FROM rows WHERE place > $2::integer) AS next;
