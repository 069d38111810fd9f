-- Shows one token.
-- $1 token_id  text  cast to the column's type
-- Returns one row; no row if there is no such token. Texts are cut to what is shown. Times that a client's dates cannot
-- hold become -infinity or infinity.
-- Leans on the unique index of token_id.
SELECT
  left(token.token_id::text, 100) AS token_id,
  token.{key} AS id,
  lower(left(token.status::text, 63)) AS status,
  CASE WHEN token.{order} > '9999-12-30' THEN 'infinity' WHEN token.{order} < '0001-01-02' THEN '-infinity' ELSE token.{order} END AS minted_at,
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
FROM {table} AS token
WHERE token.token_id = $1::text::{number_type};
