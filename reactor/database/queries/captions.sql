-- Reads what a page shows of some tokens beside what list_tokens.sql has.
-- $1 keys  text[]  cast to the key's type
-- Returns id (text), prompt (cut), minted_for and image_for: seconds since the mint, and since the intent to buy the
-- image, a little before the image itself; null: unknown.
-- Leans on the primary key.
SELECT
  {key}::text AS id,
  left({prompt}, 300) AS prompt,
  CASE WHEN {minted_at} BETWEEN clock_timestamp() - interval '100 years' AND clock_timestamp() + interval '1 year'
    THEN extract(epoch FROM clock_timestamp() - {minted_at})
  END::double precision AS minted_for,
  CASE WHEN token.generation_seeded_at BETWEEN clock_timestamp() - interval '100 years' AND clock_timestamp() + interval '1 year'
    THEN extract(epoch FROM clock_timestamp() - token.generation_seeded_at)
  END::double precision AS image_for,
  CASE WHEN token.generation_due_at BETWEEN clock_timestamp() AND clock_timestamp() + interval '1 year'
    THEN extract(epoch FROM token.generation_due_at - clock_timestamp())
  END::double precision AS due_in
FROM {table} AS token
WHERE {key} = ANY ($1::text[]::{key_type}[]);
