-- Lists the triggers on the tokens table that call our functions, under any name.
-- $1 tokens    text  the table, quoted and with its schema
-- $2 arguments text  the arguments they should have, a comma after each
-- Returns for each: name, function, enabled (O in ordinary sessions, A always, R in replicating ones only, D disabled),
-- and as_wanted: whether its arguments are those of $2, and it is called once a statement, without a condition. After the
-- table was renamed the arguments are others.
-- Leans on the catalogue's own indexes.
SELECT
  tgname AS name,
  pg_proc.proname AS function,
  tgenabled::text AS enabled,
  replace(encode(tgargs, 'escape'), E'\\000', ',') = encode(convert_to($2::text, getdatabaseencoding()), 'escape')
    AND tgtype::integer & 1 = 0 AND tgqual IS NULL AND tgattr::text = '' AS as_wanted
FROM pg_catalog.pg_trigger
JOIN pg_catalog.pg_proc ON pg_proc.oid = tgfoid
JOIN pg_catalog.pg_namespace AS home ON home.oid = pronamespace AND home.nspname = 'reactor'
WHERE tgrelid = to_regclass($1::text)
ORDER BY tgname;
