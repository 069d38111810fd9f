-- What an attempt needs of a token that was just claimed or rescued: the columns of a RETURNING.
{key} AS id,
{number} AS token_id,
generation_epoch AS epoch,
{prompt} AS prompt,
generation_attempts AS attempts,
generation_censored AS censored,
generation_seed AS seed,
generation_seeded_at AS seeded_at,
generation_seeded_at < now() AS seed_was_set,
CASE WHEN octet_length(generation_prediction_id) <= 200 THEN generation_prediction_id END AS prediction_id,
{traceparent} AS traceparent
