-- Tells the demo whether a database has any table: such a database belongs to somebody.
-- Returns inhabited. An extension's tables do not count.
SELECT EXISTS (
  SELECT
  FROM pg_catalog.pg_class
  WHERE
    relkind IN ('r', 'p', 'f')
    AND relpersistence <> 't'
    AND relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
    AND relnamespace <> 'pg_toast'::regnamespace
    AND NOT EXISTS (
      SELECT
      FROM pg_catalog.pg_depend
      WHERE classid = 'pg_catalog.pg_class'::regclass AND objid = pg_class.oid AND deptype = 'e'
    )
) AS inhabited;
