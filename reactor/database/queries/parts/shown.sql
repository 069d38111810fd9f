-- The columns of a token that is shown, under the names that people know: of a SELECT.
-- Texts are cut to what is shown. Times that a client's dates cannot hold become -infinity or infinity.
left({number_column}::text, 100) AS token_id,
{key} AS id,
lower(left(token.status::text, 63) COLLATE "C") AS status,
CASE WHEN {minted_at} > '9999-12-30' THEN 'infinity' WHEN {minted_at} < '0001-01-02' THEN '-infinity' ELSE {minted_at} END AS minted_at,
left(token.image_url::text, 2048) AS image_url,
token.generation_attempts AS attempts,
left(token.generation_error::text, 4000) AS error,
CASE WHEN token.generation_due_at > '9999-12-30' THEN 'infinity' WHEN token.generation_due_at < '0001-01-02' THEN '-infinity' ELSE token.generation_due_at END AS due_at,
CASE WHEN token.generation_lease_ends_at > '9999-12-30' THEN 'infinity' WHEN token.generation_lease_ends_at < '0001-01-02' THEN '-infinity' ELSE token.generation_lease_ends_at END AS lease_ends_at,
token.generation_epoch AS epoch,
token.generation_worker AS worker,
token.generation_seed AS seed,
left(token.generation_prediction_id::text, 200) AS prediction_id,
token.generation_censored AS censored,
token.generation_rescues AS rescues,
char_length({whole_prompt}) AS prompt_characters
