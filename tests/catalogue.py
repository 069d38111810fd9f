"""The content of a database's catalogue, to compare two databases, or one database at two times."""

import asyncpg

OURS = "nspname !~ '^pg_' AND nspname <> 'information_schema'"
QUERIES = {
    "schema": f"SELECT nspname, obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE {OURS}",
    "relation": f"""
        SELECT nspname, relname, relkind::text, relpersistence::text, reloptions, relacl::text, relrowsecurity,
            obj_description(pg_class.oid, 'pg_class')
        FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE {OURS}""",
    "column": f"""
        SELECT nspname, relname, attname, format_type(atttypid, atttypmod), attnotnull, attidentity::text,
            attcollation::regcollation::text, pg_get_expr(adbin, adrelid), col_description(attrelid, attnum)
        FROM pg_attribute
        JOIN pg_class ON pg_class.oid = attrelid AND relkind IN ('r', 'v', 'p')
        JOIN pg_namespace ON pg_namespace.oid = relnamespace
        LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE attnum > 0 AND NOT attisdropped AND {OURS}""",
    "constraint": f"""
        SELECT nspname, conrelid::regclass::text, conname, pg_get_constraintdef(pg_constraint.oid), convalidated
        FROM pg_constraint JOIN pg_namespace ON pg_namespace.oid = connamespace WHERE {OURS}""",
    "index": f"""
        SELECT nspname, relname, pg_get_indexdef(indexrelid), indisvalid
        FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE {OURS}""",
    "trigger": "SELECT pg_get_triggerdef(oid), tgenabled::text FROM pg_trigger WHERE NOT tgisinternal",
    "function": f"""
        SELECT nspname, pg_get_functiondef(pg_proc.oid), proacl::text, obj_description(pg_proc.oid, 'pg_proc')
        FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace WHERE {OURS}""",
    "label": f"""
        SELECT nspname, typname, enumlabel, enumsortorder
        FROM pg_enum JOIN pg_type ON pg_type.oid = enumtypid JOIN pg_namespace ON pg_namespace.oid = typnamespace
        WHERE {OURS}""",
}


async def snapshot(url, *kinds):
    """All objects of the given kinds, or of all kinds. A set, so that a failed comparison shows the difference."""
    connection = await asyncpg.connect(url)
    try:
        return {(kind, *map(str, row)) for kind in kinds or QUERIES for row in await connection.fetch(QUERIES[kind])}
    finally:
        await connection.close()
