-- Inserts the gate's row again if somebody deleted it, because without it no worker claims.
-- Returns a row if it was missing.
INSERT INTO reactor.intake DEFAULT VALUES
ON CONFLICT DO NOTHING
RETURNING true AS restored;
