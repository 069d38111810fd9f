-- Reads how full the server's NOTIFY queue is.
-- Returns one row: usage, from 0 to 1. It grows while a session that listens has a transaction open.
SELECT pg_notification_queue_usage() AS usage;
