-- Rings a channel.
-- $1 channel  text
-- Returns one row without a value.
SELECT pg_notify($1::text, '');
