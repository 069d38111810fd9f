-- Lists the tokens that match a filter, the newest first, from one look at the table.
-- $1 status    text              lower case; null: any
-- $2 rows      integer           tokens to look at
-- $3 matching  text              see parts/matches.sql; null: any
-- $4 since     double precision  seconds; null: any
-- $5 begin     text              where to begin, from `next`; null: at the newest
-- $6 most      integer           tokens to return
-- Returns a row for each token, as show.sql has it; if none matches, one row of which the id is null. Each row has next,
-- where the next look begins; null: nothing is left.
-- Leans on the partial indexes of each status, on the index of what tokens are listed by, and on the primary key.
WITH {parts/looked},
ahead AS (
  SELECT (
    SELECT place::text FROM looked WHERE row_number > $2::integer OR found > $6::integer ORDER BY looked.place DESC LIMIT 1
  ) AS next
),
page AS MATERIALIZED (
  SELECT
    {key} AS id,
    {number} AS token_id,
    lower(left(token.status::text, 63) COLLATE "C") AS status,
    CASE WHEN {minted_at} > '9999-12-30' THEN 'infinity' WHEN {minted_at} < '0001-01-02' THEN '-infinity' ELSE {minted_at} END AS minted_at,
    CASE WHEN token.generation_due_at > '9999-12-30' THEN 'infinity' WHEN token.generation_due_at < '0001-01-02' THEN '-infinity' ELSE token.generation_due_at END AS due_at,
    left(token.image_url::text, 2048) AS image_url,
    token.generation_attempts AS attempts,
    left(token.generation_error::text, 1000) AS error,
    left(token.generation_prediction_id::text, 200) AS prediction_id,
    token.generation_censored AS censored,
    token.generation_rescues AS rescues,
    {listed} AS place
  FROM {table} AS token
  WHERE {key} = ANY (ARRAY(
    SELECT key FROM looked WHERE wanted AND row_number <= $2::integer AND found <= $6::integer
  ))
)
SELECT
  next, id, token_id, status, minted_at, due_at, image_url, attempts, error, prediction_id, censored, rescues
FROM ahead
LEFT JOIN page ON true
ORDER BY place DESC;
