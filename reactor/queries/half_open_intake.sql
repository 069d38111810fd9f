-- Lets the next token through a half-open gate at once: the one before it did not ask the provider.
-- $1 channel  text  the wake channel
-- Returns a row where it was half-open; one that was closed for longer meanwhile stays closed.
UPDATE reactor.intake
SET paused_until = clock_timestamp()
WHERE paused_until < clock_timestamp() + make_interval(secs => pause_seconds)
RETURNING pg_notify($1::text, '');
