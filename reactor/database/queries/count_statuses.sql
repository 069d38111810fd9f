-- Counts tokens by status. A host's column may hold any text: statuses that we do not know count as other.
-- Returns status (lower case) and tokens.
-- Leans on no index: it reads the table.
SELECT coalesce(known.status, 'other') AS status, count(*) AS tokens
FROM {table} AS token
LEFT JOIN unnest(ARRAY['detected', 'generating', 'uploading', 'ready', 'revealed', 'failed']) AS known (status)
  ON known.status = lower(left(token.status::text, 63) COLLATE "C")
GROUP BY 1
ORDER BY tokens DESC, 1;
