-- Makes the gate's row anew, where somebody removed it: without it nobody claims.
-- Returns a row where it was made.
INSERT INTO reactor.intake DEFAULT VALUES
ON CONFLICT DO NOTHING
RETURNING id;
