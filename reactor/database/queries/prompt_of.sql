-- Computes the prompt of a token, and so raises what PROMPT_SQL raises for its row.
-- $1 id  key
-- Returns bytes, the size of the prompt.
-- Leans on the primary key.
SELECT octet_length(({prompt})::text) AS bytes
FROM {table} AS token
WHERE {key} = $1::{key_type};
