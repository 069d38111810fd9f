-- Counts the errors of the tokens that match a filter, in one look at the table.
-- $1 status    text              lower case; null: any
-- $2 rows      integer           tokens to look at
-- $3 matching  text              see parts/matches.sql; null: any
-- $4 since     double precision  seconds; null: any
-- $5 begin     text              where to begin; null: at the newest
-- $6 most      integer           texts to return, the most frequent first
-- Returns error, the beginning of the text; tokens; the newest of them as token_id; and more: whether tokens or texts are left.
-- Leans on the same indexes as list_tokens.sql.
WITH {parts/looked},
errors AS (
  SELECT
    error,
    count(*) AS tokens,
    (array_agg(key ORDER BY place DESC))[1] AS key,
    (array_agg(place ORDER BY place DESC))[1] AS newest
  FROM looked
  WHERE wanted AND row_number <= $2::integer
  GROUP BY error
)
SELECT
  error,
  tokens,
  (SELECT {number}::text FROM {table} AS token WHERE {key} = errors.key) AS token_id,
  (SELECT count(*) FROM errors) > $6::integer OR EXISTS (SELECT FROM looked WHERE row_number > $2::integer) AS more
FROM errors
ORDER BY tokens DESC, newest DESC
LIMIT $6::integer;
