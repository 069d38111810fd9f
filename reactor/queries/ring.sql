-- Rings a channel.
-- $1 channel  text
SELECT pg_notify($1::text, '');
