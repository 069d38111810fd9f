-- Shows one token.
-- $1 token_id  text  read as the column's type, whatever it is
-- Returns one row; none where there is no such token.
-- Leans on the unique index of token_id.
SELECT
  token.token_id::text AS token_id,
  token.{key} AS id,
  lower(token.status::text) AS status,
  token.{order} AS minted_at,
  token.image_url,
  token.generation_attempts AS attempts,
  token.generation_error AS error,
  token.generation_due_at AS due_at,
  token.generation_lease_ends_at AS lease_ends_at,
  token.generation_epoch AS epoch,
  token.generation_worker AS worker,
  token.generation_seed AS seed,
  token.generation_prediction_id AS prediction_id,
  token.generation_censored AS censored,
  token.generation_rescues AS rescues,
  char_length({prompt}) AS prompt_characters
FROM {table} AS token
WHERE token.token_id = $1::text::{number_type};
