-- Fails a token that waits, because it can never be claimed: PROMPT_SQL raises for its row.
-- $1 id     key
-- $2 error  text
-- Returns a row if the token was still waiting.
-- Leans on the primary key.
UPDATE {table} AS token
SET
  status = {failed},
  generation_error = left($2::text, {longest_error}),
  generation_due_at = NULL,
  generation_lease_ends_at = NULL,
  generation_worker = NULL
WHERE {key} = $1::{key_type}
  AND status = {detected}
RETURNING {key} AS id;
