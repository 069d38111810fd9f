-- Deletes those of the demo's tokens that have no image, and their authors, so that no worker buys images for them.
-- $1 token_ids  bigint[]
-- Returns nothing.
-- Leans on the unique index of token_id and the primary key of the authors.
WITH unfinished AS (
  DELETE FROM {table} AS token
  WHERE token_id = ANY ($1::bigint[]) AND image_url IS NULL
  RETURNING author_id
)
DELETE FROM {authors} AS author
USING unfinished
WHERE author.id = unfinished.author_id;
