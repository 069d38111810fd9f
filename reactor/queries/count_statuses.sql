-- Counts tokens by status.
-- Returns status (lower case) and tokens.
-- Leans on no index: it reads the table.
SELECT lower(status::text) AS status, count(*) AS tokens
FROM {table}
GROUP BY 1;
