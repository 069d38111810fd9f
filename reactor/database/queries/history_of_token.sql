-- Reads the history of one token, the newest entries first.
-- $1 id      text     the token's key
-- $2 rows    integer  the most entries
-- $3 before  bigint   only entries with a smaller id; null: from the newest
-- Returns the columns of parts/entry.sql.
-- Leans on the history's index of keys.
SELECT
  {parts/entry}
FROM reactor.attempts
WHERE key = $1::text
  AND tokens_table = {tokens_table}
  AND id < coalesce($3::bigint, 9223372036854775807)
ORDER BY id DESC
LIMIT $2::integer;
