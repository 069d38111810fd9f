-- Mints tokens, one author for each prompt, as a backend does; for demos and trials.
-- $1 prompts  text[]
-- Returns the token_ids, in the order of the prompts.
-- Leans on no index.
WITH given AS (
  SELECT gen_random_uuid() AS author_id, prompt, position
  FROM unnest($1::text[]) WITH ORDINALITY AS given (prompt, position)
),
written AS (
  INSERT INTO {authors} ({author_key}, wallet_address, prompt_text)
  SELECT author_id, left('0x' || replace(author_id::text || gen_random_uuid()::text, '-', ''), 42), prompt
  FROM given
),
minted AS (
  INSERT INTO {table} AS token ({minted_key}author_id)
  SELECT {new_key}author_id
  FROM given
  ORDER BY position
  RETURNING {number_column} AS token_id, author_id
)
SELECT token_id
FROM minted
JOIN given USING (author_id)
ORDER BY position;
