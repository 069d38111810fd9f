"""Functions and operators that an attacker plants: their types match our calls better than PostgreSQL's own do.

Each raises an error, after it has noted its call in a sequence, which no rollback undoes.
"""

import re
from itertools import product
from pathlib import Path

import asyncpg

from reactor.migrations.files import home

OURS = (*Path(__file__).parents[1].glob("reactor/**/*.sql"), *home("alembic").glob("versions/*.py"))
PLAIN = ("text", "varchar", "name", '"char"', "int4", "int8", "numeric", "float8", "bool", "uuid", "timestamptz", "oid")
ONE = (*PLAIN, "text[]", "uuid[]", "int8[]", "int4[]", "float8[]", "bool[]", "name[]")
TWO = ("text", "varchar", "name", "int4", "int8", "oid", "uuid", "timestamptz")
MORE = ("text", "int4", "int8")
OPERATORS = ("=", "<>", "<", "<=", ">", ">=", "+", "-", "*", "/", "||", "|", "&", "<<", "~")
BODY = "PERFORM pg_catalog.nextval('public.called'); RAISE EXCEPTION 'planted';"


def names():
    """The names of all functions that our statements may call."""
    return sorted({name for file in OURS for name in re.findall(r"\b([a-z][a-z0-9_]+)\(", file.read_text())})


def function(name, types):
    return f"CREATE FUNCTION public.{name}({', '.join(types)}) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN {BODY} END $$"


async def plant(url):
    """Create them as the role of `url`, which may create in the schema public."""
    connection = await asyncpg.connect(url)
    try:
        known = await connection.fetch(
            "SELECT proname, max(pronargs) FROM pg_proc WHERE proname = ANY ($1::text[]) GROUP BY proname", names()
        )
        planted = ["CREATE SEQUENCE public.called; GRANT ALL ON SEQUENCE public.called TO PUBLIC"]
        for name, most in known:
            planted += [function(name, [kind]) for kind in ONE]
            planted += [function(name, types) for types in product(TWO, repeat=2) if most >= 2]
            planted += [function(name, types) for types in product(MORE, repeat=3) if most >= 3]
        for left, right in product((*PLAIN, "text[]"), repeat=2):
            planted.append(function("planted", [left, right]))
            operand = f"FUNCTION = public.planted, LEFTARG = {left}, RIGHTARG = {right}"
            planted += [f"CREATE OPERATOR public.{operator} ({operand})" for operator in OPERATORS]
        await connection.execute("; ".join(planted))
    finally:
        await connection.close()


CALLED = "SELECT is_called FROM public.called"
