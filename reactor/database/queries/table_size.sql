-- Reads the size of a table's rows, without their indexes.
-- $1 relation  text  the table, quoted and with its schema
-- Returns bytes.
SELECT pg_relation_size(to_regclass($1::text)) AS bytes;
