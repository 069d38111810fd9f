-- Tells whether any token is still on its way.
-- Returns one boolean.
-- Leans on the three partial indexes; a bare status = 'detected' would be implied by none of them.
SELECT
  EXISTS (SELECT FROM {table} WHERE status = {detected} AND generation_due_at IS NULL)
  OR EXISTS (SELECT FROM {table} WHERE status = {detected} AND generation_due_at IS NOT NULL)
  OR EXISTS (SELECT FROM {table} WHERE status = {generating}) AS unfinished;
