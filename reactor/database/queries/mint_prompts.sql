-- Mints tokens of a table that holds the prompts itself; for trials.
-- $1 prompts  text[]
-- Returns the token_ids.
-- Leans on no index.
INSERT INTO {table} AS token ({minted_key}{prompt_column})
SELECT {new_key}prompt
FROM unnest($1::text[]) WITH ORDINALITY AS given (prompt, position)
ORDER BY position
RETURNING {number_column} AS token_id;
