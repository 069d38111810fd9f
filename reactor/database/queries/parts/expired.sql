-- The next tokens whose image is gone from the provider before the next stage took it, by when their seed was written: CTEs.
-- $1 begin_at  text              where to begin, from `next_at`; null: at the oldest
-- $2 rows      integer           uploading tokens to look at
-- $3, $4: see matches.sql
-- $5 begin     key               where to begin among those with the same time, from `next`; null: at the first
-- $6 kept      double precision  seconds for which the provider keeps an image
-- Gives rows: key, seeded_at, place (from 1), and wanted. A row with place $2 + 1 is where the next step begins.
--
-- An image is as old as the entry of the history that tells of its purchase, else as the intent to buy it. The intent
-- is always older, so it alone decides where to stop. The limit is a subquery, as in gauges.sql.
rows AS (
  SELECT
    {key} AS key,
    generation_seeded_at AS seeded_at,
    row_number() OVER (ORDER BY generation_seeded_at, {key}) AS place,
    {parts/matches} AND coalesce(
      (
        SELECT max(entry.ended_at)
        FROM reactor.attempts AS entry
        WHERE entry.key = {key}::text
          AND entry.tokens_table = {tokens_table}
          AND entry.outcome = 'succeeded'
          AND entry.prediction_id = token.generation_prediction_id
      ),
      generation_seeded_at
    ) < now() - make_interval(secs => $6::double precision) AS wanted
  FROM {table} AS token
  WHERE status = {uploading}
    AND generation_seeded_at < now() - make_interval(secs => $6::double precision)
    AND generation_seeded_at >= coalesce($1::text::timestamptz, '-infinity')
    AND ($5::{key_type} IS NULL OR (generation_seeded_at, {key}) >= ($1::text::timestamptz, $5::{key_type}))
  ORDER BY generation_seeded_at, {key}
  LIMIT (SELECT $2::integer + 1)
)
