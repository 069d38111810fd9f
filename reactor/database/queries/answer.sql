-- Asks for nothing but an answer.
-- Returns one row without a value.
SELECT;
