-- Counts the tokens that match a filter, in one look at the table.
-- $1 status    text              lower case; null: any
-- $2 rows      integer           tokens to look at
-- $3 matching  text              see parts/matches.sql; null: any
-- $4 since     double precision  seconds; null: any
-- $5 begin     text              where to begin, from `next`; null: at the newest
-- Returns one row: tokens; and next, where the next look begins; null: nothing is left.
-- Leans on the same indexes as list_tokens.sql.
WITH {parts/looked}
SELECT
  (SELECT count(*) FROM looked WHERE wanted AND row_number <= $2::integer) AS tokens,
  (SELECT place::text FROM looked WHERE row_number > $2::integer) AS next;
