"""Which table is served and whose code runs, whatever search_path the role and the database have."""

import asyncio

import asyncpg
import pytest
from alembic import command as alembic
from conftest import command
from doubles import DirectedProvider, running
from hosts import inherited, make_host
from planted import CALLED, plant
from pooler import pooler
from strangers import stranger

from reactor.database.discovery import discover
from reactor.database.search_path import SAFE_FOR, SafePath, pin
from reactor.database.table import TableError
from reactor.engine.timings import TIMINGS
from reactor.engine.wake.listener import Listener
from reactor.errors import ContentPolicyError, TransientError
from reactor.migrations import migration_lock, revisions
from reactor.migrations.migration_lock import MigrationError

# Another program's objects, with the names of ours.
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

    await revisions.upgrade(empty_database, table="public.tokens_s0")
    async with running(empty_database, DirectedProvider()) as (_, log):
        await log.wait("token.generation.succeeded", times=2)


async def _second(database, connection):
    """Another migrated table of the same name."""
    await connection.execute("CREATE SCHEMA season")
    await revisions.upgrade(database, table="season.tokens_s0")


@pytest.mark.anyio
async def test_of_two_migrated_tables_of_a_name_the_schema_must_be_named(database, connection, open_session):
    await _second(database, connection)
    session = open_session(database)
    told = r"^tokens_s0 can be public\.tokens_s0 or season\.tokens_s0; name the schema, as in TOKENS_TABLE=public\.to"

    with pytest.raises(TableError, match=told):
        await discover(session, "tokens_s0")
    with pytest.raises(MigrationError, match=told):
        await revisions.upgrade(database)
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


# Roles that may create in a schema of the search path, and plant objects that PostgreSQL takes for the ones we call.

MAY_CREATE = "GRANT CREATE ON SCHEMA public TO {role}"
# As outside of tests: with `off`, the worker runs each statement in a transaction that raises it.
DURABLE = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = on', current_database()); END $$"


@pytest.fixture(autouse=True)
def only_the_owner_creates_in_public(database):
    """As PostgreSQL has it since 15. Before, every role may create there, and the schema leaves the path."""
    command(
        database,
        "DO $$ BEGIN IF current_setting('server_version_num')::int < 150000 THEN"
        " REVOKE CREATE ON SCHEMA public FROM PUBLIC; END IF; END $$",
    )


@pytest.fixture
async def planted(database):
    """The test's database, in which a stranger has planted functions and operators for all our calls."""
    async with stranger(database, MAY_CREATE, DURABLE) as url:
        await plant(url)
        yield database


async def _called(url):
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(CALLED)
    finally:
        await connection.close()


@pytest.mark.anyio
@pytest.mark.parametrize("pooled", [False, True])
async def test_a_worker_calls_nothing_that_is_planted(planted, make_token, token_row, pooled):
    provider = DirectedProvider()
    provider.script["create"] = [ContentPolicyError("no"), TransientError("later")]
    async with pooler(planted) as through:
        where = {"listen_database_url": planted} if pooled else {}
        async with running(through if pooled else planted, provider, worker_batch_size=1, **where) as (_, log):
            tokens = [await make_token() for _ in range(3)]
            await log.wait("token.generation.succeeded", times=3)

    assert not log.errors()
    assert not await _called(planted)
    assert [(await token_row(token))["status"] for token in tokens] == ["uploading"] * 3


@pytest.mark.anyio
async def test_a_listener_behind_a_pooler_calls_nothing_that_is_planted_and_would_be_called(
    planted, connection, make_token
):
    async with pooler(planted) as through, running(through, DirectedProvider()) as (_, log):
        await make_token()
        await log.wait("token.generation.succeeded")

    assert not log.errors()
    assert not await _called(planted)
    with pytest.raises(asyncpg.RaiseError, match="planted"):
        await connection.execute("SELECT hashtextextended('x'::text, 1)")
    assert await _called(planted)


@pytest.mark.anyio
async def test_a_listener_asks_under_a_pinned_path_behind_a_pooler_too(database, connection):
    await connection.execute("SET search_path = nonsense, public")
    listener = Listener(database, None, None, None, None, worker=1, timings=TIMINGS)
    ask = listener._asking(connection, await pin(connection, pooled=True))

    ((told,), (after,)) = await ask("SHOW search_path"), await connection.fetchrow("SHOW search_path")

    assert (told, after) == ("pg_catalog, pg_temp", "nonsense, public")


def test_commands_call_nothing_that_is_planted(planted_for_commands, reactor):
    commands = ("migrate", "mint 2", "show 1", "status", "retry --failed", "pause", "resume", "migrate --down --yes")

    said = [reactor(*words.split()) for words in commands]

    assert [(code, err) for code, _, err in said] == [(0, "")] * len(said)
    assert not asyncio.run(_called(planted_for_commands))


@pytest.fixture
def planted_for_commands(database):
    """Like `planted`, for tests that run no event loop."""
    with asyncio.Runner() as runner:
        held = stranger(database, MAY_CREATE)
        runner.run(plant(runner.run(held.__aenter__())))
        yield database
        runner.run(held.__aexit__(None, None, None))


@pytest.mark.anyio
async def test_a_migration_calls_nothing_that_is_planted(empty_database):
    async with stranger(empty_database, MAY_CREATE) as url:
        await plant(url)

        await revisions.upgrade(empty_database, table="public.tokens_s0")
        await migration_lock.run_alone(
            empty_database, lambda connection: alembic.check(revisions.config(connection, "public.tokens_s0"))
        )

        assert not await _called(empty_database)
        async with running(empty_database, DirectedProvider()) as (_, log):
            await log.wait("watch.taken")
        await revisions.downgrade(empty_database, table="public.tokens_s0")
        assert not await _called(empty_database)


# Hosts' triggers that name their tables without a schema.

AUDIT = """
    CREATE TABLE audit (status text);
    CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN INSERT INTO audit VALUES (NEW.status); RETURN NEW; END $$;
    CREATE TRIGGER audit BEFORE UPDATE ON tokens_s0 FOR EACH ROW EXECUTE FUNCTION audit()
"""
AS_ROLE = "SET SESSION AUTHORIZATION {role}"
PLANTED = {
    "a function": "CREATE FUNCTION public.left_behind() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "an operator": "CREATE OPERATOR public.=== (FUNCTION = texteq, LEFTARG = text, RIGHTARG = text)",
    "a table": "CREATE TABLE public.audit (status text)",
    "a view": "CREATE VIEW public.audit AS SELECT 'detected' AS status",
    "a sequence": "CREATE SEQUENCE public.audit",  # a sequence has no row type
    "an enum": "CREATE TYPE public.mood AS ENUM ('odd')",
    "a domain": "CREATE DOMAIN public.mood AS text",
}


def left(statement):
    """Statements that leave an object of a role that may no longer create."""
    return [
        MAY_CREATE,
        f"{AS_ROLE}; {statement}; RESET SESSION AUTHORIZATION",
        "REVOKE CREATE ON SCHEMA public FROM {role}",
    ]


TRUSTED = {
    "nobody else creates": ([], "public, pg_temp"),
    "one may create": ([MAY_CREATE], "pg_catalog, pg_temp"),
    "all may create": (["GRANT CREATE ON SCHEMA public TO PUBLIC"], "pg_catalog, pg_temp"),
    **{f"one has created {what}": (left(each), "pg_catalog, pg_temp") for what, each in PLANTED.items()},
    "the owner of the table creates": (
        [MAY_CREATE, "ALTER TABLE tokens_s0 OWNER TO {role}"],
        "public, pg_temp",
    ),
    "a schema of another's": (["CREATE SCHEMA theirs AUTHORIZATION {role}"], "public, pg_temp"),
}


@pytest.mark.anyio
@pytest.mark.parametrize(("grants", "path"), TRUSTED.values(), ids=TRUSTED.keys())
async def test_schemas_stay_on_the_path_while_only_those_create_there_whom_we_trust(
    database, connection, open_session, grants, path
):
    await connection.execute(inherited(database, "search_path", "theirs, public, nowhere"))
    async with stranger(database, *grants):
        session = open_session(database)
        await discover(session, "tokens_s0")
        ((found,),) = await session.fetch("SHOW search_path")

    assert (session.safe.path, found) == (path, path)


@pytest.mark.anyio
@pytest.mark.parametrize("pooled", [False, True])
async def test_a_schema_leaves_the_path_of_all_sessions_once_somebody_may_create_in_it(
    database, connection, open_session, pooled
):
    now = [0.0]
    shared = SafePath(clock=lambda: now[0])
    async with pooler(database) as through, stranger(database) as theirs:
        url = through if pooled else database
        one, another = (open_session(url, pooled=pooled) for _ in range(2))
        one.safe = another.safe = shared
        await discover(one, "tokens_s0")
        before = [(await session.fetch("SHOW search_path"))[0][0] for session in (one, another)]
        role = theirs.partition("//")[2].partition(":")[0]
        await connection.execute(MAY_CREATE.format(role=role))

        now[0] += SAFE_FOR
        after = [(await session.fetch("SHOW search_path"))[0][0] for session in (one, another)]

    assert (before, after) == (["public, pg_temp"] * 2, ["pg_catalog, pg_temp"] * 2)


@pytest.mark.anyio
@pytest.mark.parametrize("pooled", [False, True])
async def test_a_hosts_trigger_that_names_no_schema_works_where_nobody_plants(database, connection, make_token, pooled):
    await connection.execute(AUDIT)
    async with pooler(database) as through:
        where = {"listen_database_url": database} if pooled else {}
        async with running(through if pooled else database, DirectedProvider(), **where) as (_, log):
            await make_token()
            await log.wait("token.generation.succeeded")

    assert not log.errors()
    assert await connection.fetchval("SELECT count(*) FROM audit WHERE status = 'uploading'") == 1


@pytest.mark.anyio
async def test_a_hosts_trigger_that_names_no_schema_is_told_where_somebody_may_plant(database, connection, make_token):
    await connection.execute(AUDIT)
    async with stranger(database, MAY_CREATE), running(database, DirectedProvider()) as (_, log):
        await make_token()
        error = await log.wait("worker.error")

    assert error["error_message"].startswith(
        'UndefinedTableError: relation "audit" does not exist, in PL/pgSQL function'
    )
    assert error["error_message"].endswith(
        "our search path leaves out schemas in which other roles may create, or have created"
    )
