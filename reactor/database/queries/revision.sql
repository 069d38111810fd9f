-- Reads the revision that the database was migrated to.
-- Returns one row: revision; null while the first one has not been completed.
-- Leans on nothing: the table has at most one row.
SELECT max(version_num) AS revision
FROM reactor.alembic_version;
