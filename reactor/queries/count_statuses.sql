-- Counts tokens by status: the hundred most frequent ones, where a host lets its column hold any text.
-- Returns status (lower case) and tokens.
-- Leans on no index: it reads the table.
SELECT lower(left(status::text, 63)) AS status, count(*) AS tokens
FROM {table}
GROUP BY 1
ORDER BY tokens DESC, status
LIMIT 100;
