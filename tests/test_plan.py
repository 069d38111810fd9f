"""`reactor migrate --plan` by a role that may change nothing: it reads the catalogue, and that is enough."""

from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from conftest import command
from hosts import SHAPES, make_host, name_of
from test_adoption import SHAPES as ODD_SHAPES
from test_adoption import migration

from reactor.migrations import revisions
from reactor.migrations.migration_lock import MigrationError

pytestmark = pytest.mark.anyio

MAY_READ_THE_REVISION = "GRANT USAGE ON SCHEMA reactor TO {0}; GRANT SELECT ON reactor.alembic_version TO {0}"


async def execute(url, statement):
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture
def onlooker(server_url, empty_database):
    """A role that may connect and read the catalogue: its name, and the database's URL for it."""
    parts = urlsplit(empty_database)
    role = f"{parts.path[1:]}_onlooker"
    command(
        empty_database,
        f"CREATE ROLE {role} LOGIN PASSWORD 'x'",
        f"ALTER ROLE {role} SET default_transaction_read_only = on",
        f"REVOKE TEMPORARY ON DATABASE {parts.path[1:]} FROM PUBLIC",
    )
    yield role, urlunsplit(parts._replace(netloc=f"{role}:x@{parts.netloc.rpartition('@')[2]}"))
    command(empty_database, f"DROP OWNED BY {role}")
    command(server_url, f"DROP ROLE {role}")


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
async def test_a_role_that_reads_the_catalogue_alone_gets_the_plan_of_a_hosts_table(empty_database, onlooker, shape):
    (role, url), name = onlooker, name_of(shape)
    await make_host(empty_database, **shape)
    await execute(empty_database, f"GRANT USAGE ON SCHEMA {shape.get('home', 'public')} TO {role}")

    async def planned():
        """What the role is told, by how it quotes names."""
        told = {}
        for quoting in ("off", "on"):
            await execute(empty_database, f"ALTER ROLE {role} SET quote_all_identifiers = {quoting}")
            told[quoting] = [step.what for step in (await revisions.plan(url, table=name)).steps]
        return told

    before = await planned()
    whole = [step.what for step in (await revisions.plan(empty_database, table=name)).steps]
    await revisions.upgrade(empty_database, table=name)
    await execute(empty_database, MAY_READ_THE_REVISION.format(role))

    assert before == {"off": whole, "on": whole}
    assert await planned() == {"off": [], "on": []}


@pytest.mark.parametrize(("ddl", "rows", "given"), [(s[0], s[1], s[3]) for s in ODD_SHAPES.values()], ids=ODD_SHAPES)
async def test_what_is_migrated_needs_nothing_more_whatever_its_shape(empty_database, ddl, rows, given):
    await execute(empty_database, f"{ddl}; {rows}")
    await revisions.upgrade(empty_database, **migration(given))

    assert (await revisions.plan(empty_database, **migration(given))).steps == []


async def test_an_index_that_differs_is_in_the_plan(empty_database, onlooker):
    role, url = onlooker
    await make_host(empty_database)
    await revisions.upgrade(empty_database)
    await execute(empty_database, MAY_READ_THE_REVISION.format(role))
    await execute(
        empty_database,
        "DROP INDEX tokens_s0_generation_held;"
        "CREATE INDEX tokens_s0_generation_held ON tokens_s0 (id) WHERE status = 'failed'",
    )

    steps = [step.what for step in (await revisions.plan(url)).steps]

    assert steps[0] == "build index tokens_s0_generation_held2"


DENIED = r": a plan needs USAGE on schema reactor and on the table's schema, and SELECT on reactor\.alembic_version$"
LACKING = {
    "USAGE on the schema": ("SELECT", rf"^permission denied for schema reactor{DENIED}"),
    "SELECT on the revision": (
        "GRANT USAGE ON SCHEMA reactor TO {0}",
        rf"^permission denied for table alembic_version{DENIED}",
    ),
}


@pytest.mark.parametrize(("granted", "told"), LACKING.values(), ids=LACKING)
async def test_a_right_that_a_plan_lacks_is_named_in_one_line(empty_database, onlooker, granted, told):
    role, url = onlooker
    await make_host(empty_database)
    await revisions.upgrade(empty_database)
    await execute(empty_database, granted.format(role))

    with pytest.raises(MigrationError, match=told):
        await revisions.plan(url)


async def test_a_prompt_sql_that_a_role_may_not_try_is_refused_in_one_line(empty_database, onlooker):
    await make_host(empty_database)

    told = r"^PROMPT_SQL: permission denied .* tokens_s0: it is checked with SELECT and UPDATE on public\.tokens_s0$"
    with pytest.raises(MigrationError, match=told):
        await revisions.plan(onlooker[1], prompt_sql="token.rarity::text")
