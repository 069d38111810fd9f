-- Sets failed tokens back to detected: new, as far as the reactor is concerned.
-- $1 token_ids  bigint[]  null: all that failed
-- Returns the token_ids that were set back.
-- Leans on the unique index of token_id; all that failed are found by reading the table.
UPDATE {table}
SET status = {detected}, generation_due_at = NULL
WHERE status = {failed} AND ($1::bigint[] IS NULL OR token_id = ANY ($1::bigint[]))
RETURNING token_id;
