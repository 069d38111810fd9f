-- Tells whether the table holds a token without an image of a sandbox on this machine: it may be a real one.
-- Returns strangers.
-- Leans on no index: it reads the table up to the first such token.
SELECT EXISTS (
  SELECT
  FROM {table} AS token
  WHERE image_url IS NULL OR image_url NOT LIKE 'http://127.0.0.1:%/files/%'
) AS strangers;
