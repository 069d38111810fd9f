-- Reads the next tokens by key that may have bought something in the time of an audit.
-- $1 begin           key               the first key to look at; null: the smallest
-- $2 rows            integer           tokens to look at
-- $3 since           timestamptz       the audit looks no further back
-- $4 prediction_ids  text[]            tokens with these are read however old their seed is
-- $5 seeds           integer[]         as are tokens with these
-- Returns a row for each: key, token_id (text), status, seed, prediction_id, seeded_at; if there is none, one row of which
-- the key is null. Each row has next, the key to continue with, null at the end.
-- Leans on the primary key: nothing else finds a token by its seed. The limit is a subquery, as in gauges.sql.
WITH looked AS (
  SELECT
    {key} AS key,
    left({number}::text, 100) AS token_id,
    lower(left(token.status::text, 63) COLLATE "C") AS status,
    token.generation_seed AS seed,
    left(token.generation_prediction_id::text, 200) AS prediction_id,
    CASE WHEN token.generation_seeded_at BETWEEN '1900-01-01' AND '9999-01-01' THEN token.generation_seeded_at END AS seeded_at,
    row_number() OVER (ORDER BY {key}) AS place
  FROM {table} AS token
  WHERE {key} >= coalesce($1::{key_type}, (SELECT {key} FROM {table} AS token ORDER BY {key} LIMIT 1))
  ORDER BY {key}
  LIMIT (SELECT $2::integer + 1)
),
ahead AS (
  SELECT (SELECT key FROM looked WHERE place > $2::integer) AS next
),
concerned AS (
  SELECT key, token_id, status, seed, prediction_id, seeded_at
  FROM looked
  WHERE place <= $2::integer
    AND (
      seeded_at >= $3::timestamptz
      OR status IN ('detected', 'generating') AND seed IS NOT NULL
      OR prediction_id = ANY ($4::text[])
      OR seed = ANY ($5::integer[])
    )
)
SELECT key::text AS key, token_id, status, seed, prediction_id, seeded_at, next
FROM ahead
LEFT JOIN concerned ON true;
