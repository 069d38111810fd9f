-- The tokens that one look at the table reads, the newest first: CTEs.
-- $1 status  text     lower case; null: any
-- $2 rows    integer  tokens to look at
-- $3, $4: see matches.sql
-- $5 begin   text     where to begin, from the `next` of the last look; null: at the newest
-- Gives looked: key, place (what tokens are listed by), wanted (whether the filter matches), error (its beginning),
-- row_number (from 1), and found, the tokens wanted up to this one. A token with row_number $2 + 1 is where the next look
-- begins.
--
-- Failed tokens have an index in the order of the list. Of the other statuses with an index, it gives all tokens if they
-- are at most $2. Otherwise the look reads $2 tokens of any status. So what it costs depends on $2 alone: each token is
-- read once, from an index that has the order. The limits are subqueries, as in gauges.sql.
front AS MATERIALIZED (
  SELECT coalesce(
    $5::text::{listed_type}, (SELECT {listed} FROM {table} AS token ORDER BY {listed} DESC LIMIT 1)
  ) AS place
),
of_status AS MATERIALIZED (
  (
    SELECT {parts/seen} FROM {table} AS token WHERE status = {generating} AND $1::text = 'generating'
    ORDER BY {key} LIMIT (SELECT $2::integer + 1)
  )
  UNION ALL
  (
    SELECT {parts/seen} FROM {table} AS token WHERE status = {uploading} AND $1::text = 'uploading'
    ORDER BY generation_seeded_at LIMIT (SELECT $2::integer + 1)
  )
  UNION ALL
  (
    SELECT {parts/seen} FROM {table} AS token
    WHERE status = {detected} AND generation_due_at IS NULL AND {claimable} AND $1::text = 'detected'
    ORDER BY {order}, {key} LIMIT (SELECT $2::integer + 1)
  )
  UNION ALL
  (
    SELECT {parts/seen} FROM {table} AS token
    WHERE status = {detected} AND generation_due_at IS NOT NULL AND {claimable} AND $1::text = 'detected'
    ORDER BY generation_due_at, {key} LIMIT (SELECT $2::integer + 1)
  )
),
few AS MATERIALIZED (
  SELECT coalesce($1::text IN ('generating', 'uploading', 'detected'), false)
    AND (SELECT count(*) FROM of_status) <= $2::integer AS few
),
chosen AS MATERIALIZED (
  SELECT key, place, wanted, error FROM of_status WHERE (SELECT few FROM few) AND place <= (SELECT place FROM front)
  UNION ALL
  (
    SELECT {parts/seen}
    FROM {table} AS token
    WHERE status = {failed} AND $1::text = 'failed' AND {listed} <= (SELECT place FROM front)
    ORDER BY {listed} DESC
    LIMIT (SELECT $2::integer + 1)
  )
  UNION ALL
  (
    SELECT {parts/seen}
    FROM {table} AS token
    WHERE $1::text IS DISTINCT FROM 'failed' AND NOT (SELECT few FROM few) AND {listed} <= (SELECT place FROM front)
    ORDER BY {listed} DESC
    LIMIT (SELECT $2::integer + 1)
  )
),
looked AS MATERIALIZED (
  SELECT
    key,
    place,
    wanted,
    error,
    row_number() OVER newest_first AS row_number,
    count(*) FILTER (WHERE wanted) OVER newest_first AS found
  FROM chosen
  WINDOW newest_first AS (ORDER BY place DESC)
)
