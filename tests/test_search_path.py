"""Which table is served, whatever the search_path of role and database is."""

import pytest
from conftest import command
from doubles import DirectedProvider, running
from hosts import inherited, make_host

from reactor import migrations
from reactor.store import discover
from reactor.table import TableError
from reactor.turns import MigrationError

# Somebody else's, of the same names.
SHADOW = """
    CREATE SCHEMA shadow;
    CREATE TABLE shadow.tokens_s0 (id uuid, status text);
    CREATE TABLE shadow.authors (id uuid, prompt_text text);
    CREATE TABLE shadow.intake (paused_until timestamptz);
    CREATE TABLE shadow.alembic_version (version_num text);
    CREATE FUNCTION shadow.notify_inserted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'
"""
PATHS = ["''", "nonsense", "shadow, public", "pg_temp, shadow"]


@pytest.mark.anyio
@pytest.mark.parametrize("role", [False, True], ids=["database", "role"])
@pytest.mark.parametrize("path", PATHS)
async def test_a_worker_serves_the_migrated_table_whatever_the_search_path(
    database, connection, make_token, path, role
):
    await connection.execute(SHADOW)
    await connection.execute(inherited(database, "search_path", path, role=role))

    async with running(database, DirectedProvider()) as (_, log):
        await make_token(prompt="a red kite")
        await log.wait("token.generation.succeeded")

    assert log.of("worker.started")[0]["table"] == '"public"."tokens_s0"'
    assert not log.of("worker.error")


@pytest.mark.parametrize("path", PATHS)
def test_commands_serve_the_migrated_table_whatever_the_search_path(database, reactor, path):
    command(database, SHADOW, inherited(database, "search_path", path))

    said = [
        reactor("migrate"),
        reactor("mint", "2"),
        reactor("show", "1"),
        reactor("status"),
        reactor("retry", "--failed"),
    ]
    said += [reactor("pause"), reactor("resume")]

    assert [(code, err) for code, _, err in said] == [(0, "")] * len(said)
    code, _, err = reactor("migrate", "--down", "--yes")
    assert (code, err) == (0, "")


@pytest.mark.parametrize("path", ["''", "nonsense"])
def test_tables_are_made_where_their_name_says_so_whatever_the_search_path(empty_database, monkeypatch, reactor, path):
    monkeypatch.setenv("DATABASE_URL", empty_database)
    command(empty_database, inherited(empty_database, "search_path", path))

    code, _, err = reactor("migrate")
    assert (code, err.count("\n")) == (1, 1)
    assert err.endswith("say where the tables go, as in TOKENS_TABLE=public.tokens_s0\n")

    monkeypatch.setenv("TOKENS_TABLE", "public.tokens_s0")
    assert reactor("migrate")[0] == 0
    monkeypatch.delenv("TOKENS_TABLE")
    assert reactor("mint")[0] == 0


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["''", "shadow, public"])
async def test_a_hosts_table_is_completed_whatever_the_search_path(empty_database, connect_to, path):
    await make_host(empty_database)
    connection = await connect_to(empty_database)
    await connection.execute(SHADOW)
    await connection.execute(inherited(empty_database, "search_path", path))

    await migrations.upgrade(empty_database, table="public.tokens_s0")
    async with running(empty_database, DirectedProvider()) as (_, log):
        await log.wait("token.generation.succeeded", times=2)


async def _second(connection):
    """Another migrated table of the same name."""
    await connection.execute(
        "CREATE SCHEMA season; CREATE TABLE season.tokens_s0 (LIKE public.tokens_s0 INCLUDING ALL)"
    )
    await connection.execute("COMMENT ON TABLE season.tokens_s0 IS 'made by reactor'")


@pytest.mark.anyio
async def test_of_two_migrated_tables_of_a_name_the_schema_must_be_named(database, connection, open_session):
    await _second(connection)
    session = open_session(database)
    told = r"^tokens_s0 can be public\.tokens_s0 or season\.tokens_s0; name the schema, as in TOKENS_TABLE=public\.to"

    with pytest.raises(TableError, match=told):
        await discover(session, "tokens_s0")
    with pytest.raises(MigrationError, match=told):
        await migrations.upgrade(database)
    assert (await discover(session, "season.tokens_s0")).schema == "season"


@pytest.mark.anyio
@pytest.mark.parametrize(
    "copy",
    [
        "CREATE TABLE shadow.tokens_s0 AS SELECT * FROM public.tokens_s0",
        "CREATE TEMP TABLE tokens_s0 (LIKE public.tokens_s0 INCLUDING ALL)",
        "CREATE VIEW shadow.tokens_s0 AS SELECT * FROM public.tokens_s0",
    ],
)
async def test_a_copy_of_the_rows_is_no_second_table(database, connection, open_session, copy):
    await connection.execute(f"CREATE SCHEMA shadow; {copy}")
    await connection.execute(inherited(database, "search_path", "shadow, public"))

    assert (await discover(open_session(database), "tokens_s0")).schema == "public"


@pytest.mark.anyio
async def test_a_table_that_lost_the_migrations_mark_is_found_by_its_triggers(database, connection, open_session):
    await connection.execute("COMMENT ON TABLE tokens_s0 IS NULL")
    await connection.execute(inherited(database, "search_path", "''"))

    assert (await discover(open_session(database), "tokens_s0")).triggers == "enabled"
