-- Reads the oldest revision whose workers a newer database still serves.
-- Returns a row for the gate: serves_from, null if the gate has no such column. No row: there is no gate yet.
-- Leans on nothing: the table has at most one row.
SELECT to_jsonb(intake) ->> 'serves_from' AS serves_from
FROM reactor.intake;
