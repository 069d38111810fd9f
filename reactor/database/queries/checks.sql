-- Finds the CHECK constraints of a table that look at the status alone, and run no code of the host's.
-- $1 relation  text  the table, quoted and with its schema
-- Returns name and condition. A constraint depends on the functions, operators and types in it that are not PostgreSQL's own.
-- Leans on the catalogue's own indexes.
SELECT conname::text AS name, pg_get_expr(conbin, conrelid) AS condition
FROM pg_catalog.pg_constraint AS constraint_
WHERE conrelid = to_regclass($1::text)
  AND contype = 'c'
  AND conkey = ARRAY(
    SELECT attnum FROM pg_catalog.pg_attribute WHERE attrelid = conrelid AND attname = 'status' AND NOT attisdropped
  )
  AND NOT EXISTS (
    SELECT
    FROM pg_catalog.pg_depend
    WHERE classid = 'pg_catalog.pg_constraint'::regclass
      AND objid = constraint_.oid
      AND (
        refclassid IN ('pg_catalog.pg_proc'::regclass, 'pg_catalog.pg_operator'::regclass)
        OR refclassid = 'pg_catalog.pg_type'::regclass AND refobjid <> (
          SELECT atttypid FROM pg_catalog.pg_attribute WHERE attrelid = conrelid AND attname = 'status'
        )
      )
  );
