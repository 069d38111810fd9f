-- Tells whether the table holds a token that no sandbox on this machine made an image for: a real one, for all we know.
-- Returns strangers.
-- Leans on no index: it reads the table up to the first one.
SELECT EXISTS (
  SELECT
  FROM {table}
  WHERE image_url IS NULL OR image_url NOT LIKE 'http://127.0.0.1:%/files/%'
) AS strangers;
