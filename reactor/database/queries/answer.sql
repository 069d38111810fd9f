-- Does nothing: an answer shows that the connection works.
-- Returns one row without a value.
SELECT;
