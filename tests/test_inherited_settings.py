"""What a worker, the commands and the migrations inherit from the settings of role and database."""

from urllib.parse import urlsplit

import pytest
from conftest import command
from doubles import DirectedProvider, Gate, running
from hosts import make_host
from pooler import pooler

from reactor import migrations
from reactor.health import Health
from reactor.session import Session
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


def inherited(url, setting, value, *, role=False):
    """The statement that has every new connection to the database begin with this setting."""
    name = urlsplit(url).path[1:]
    return f"ALTER {f'ROLE CURRENT_USER IN DATABASE {name}' if role else f'DATABASE {name}'} SET {setting} = {value}"


@pytest.fixture
async def open_session():
    opened = []

    def open_another(url, **given):
        opened.append(Session(url, name="test", **given))
        return opened[-1]

    yield open_another
    for session in opened:
        session.drop()


# The search path.


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


# Settings.

# Odd, all at once, as found in databases of hosts.
ODD = {
    "standard_conforming_strings": "off",
    "backslash_quote": "on",
    "quote_all_identifiers": "on",
    "transform_null_equals": "on",
    "array_nulls": "off",
    '"TimeZone"': "'Pacific/Kiritimati'",
    '"DateStyle"': "'German, DMY'",
    '"IntervalStyle"': "sql_standard",
    "bytea_output": "escape",
    "extra_float_digits": "'-15'",
    "xmloption": "document",
    "client_min_messages": "error",
    "row_security": "off",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "statement_timeout": "'2s'",
    "lock_timeout": "'1s'",
    "idle_session_timeout": "'2s'",
    "idle_in_transaction_session_timeout": "'2s'",
    "transaction_timeout": "'2s'",
    "plan_cache_mode": "force_custom_plan",
    "jit": "on",
    "jit_above_cost": "0",
    "enable_indexscan": "off",
    "enable_bitmapscan": "off",
    "enable_nestloop": "off",
    "enable_hashjoin": "off",
    "join_collapse_limit": "1",
    "from_collapse_limit": "1",
    "debug_parallel_query": "on",
    "synchronous_commit": "off",
    "track_activities": "off",
    "temp_file_limit": "0",
    "restrict_nonsystem_relation_kind": "'view, foreign-table'",
}  # fmt: skip


def odd(url):
    """The statements for those that the server knows."""
    known = "IF current_setting('{}', true) IS NOT NULL THEN {}; END IF"
    return [
        f"DO $do$ BEGIN {known.format(name.strip(chr(34)), inherited(url, name, value))}; END $do$"
        for name, value in ODD.items()
    ]


@pytest.mark.anyio
async def test_a_worker_works_under_odd_settings(database, connection, make_token):
    for statement in odd(database):
        await connection.execute(statement)

    async with running(database, DirectedProvider()) as (_, log):
        await make_token(prompt="a back\\slash and a 'quote'")
        await log.wait("token.generation.succeeded")

    assert not log.of("worker.error")


def test_commands_work_under_odd_settings(database, reactor):
    command(database, *odd(database))

    commands = ("migrate", "mint 2", "show 1", "status", "retry --failed", "pause", "resume", "migrate --down --yes")
    said = [reactor(*words.split()) for words in commands]

    assert [(code, err) for code, _, err in said] == [(0, "")] * len(said)


RECORDER = """
    CREATE TABLE public.seen (role text, status text, durable text);
    CREATE FUNCTION seen() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        INSERT INTO public.seen
        VALUES (current_setting('application_name'), NEW.status, current_setting('synchronous_commit'));
        RETURN NEW;
      END $$;
    CREATE TRIGGER seen BEFORE UPDATE ON tokens_s0 FOR EACH ROW EXECUTE FUNCTION seen()
"""


async def _durable(connection):
    """How each write of a worker was made durable."""
    return {tuple(row) for row in await connection.fetch("SELECT role, status, durable FROM seen")}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("inherits", "expected", "role"),
    [
        ("off", "on", False),
        ("off", "on", True),
        ("local", "local", False),
        ("remote_apply", "remote_apply", True),
    ],
)
async def test_what_money_depends_on_is_durable(database, connection, make_token, inherits, expected, role):
    await connection.execute(RECORDER)
    await connection.execute(inherited(database, "synchronous_commit", inherits, role=role))

    async with running(database, DirectedProvider()) as (_, log):
        await make_token()
        await log.wait("token.generation.succeeded")

    seen = await _durable(connection)
    assert {("reactor claims", "generating", expected), ("reactor writes", "uploading", expected)} <= seen
    assert {durable for _, _, durable in seen} == {expected}


@pytest.mark.anyio
async def test_what_money_depends_on_is_durable_through_a_pooler(database, connection, make_token):
    await connection.execute(RECORDER)
    await connection.execute(inherited(database, "default_transaction_isolation", "serializable"))

    async with (
        pooler(database) as pooled,
        running(pooled, DirectedProvider(), listen_database_url=database) as (_, log),
    ):
        await make_token()
        await log.wait("token.generation.succeeded")

    assert {durable for _, _, durable in await _durable(connection)} == {"on"}


# A database that takes no writes.


async def _freeze(connection, url, frozen):
    """As an operator does before a switchover: for new connections, and no old one stays."""
    await connection.execute(inherited(url, "default_transaction_read_only", "on" if frozen else "off"))
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name LIKE 'reactor %'"
    )


@pytest.mark.anyio
async def test_a_database_that_was_made_read_only_is_waited_for(database, connection, make_token, token_row):
    provider, gate = DirectedProvider(), Gate()
    provider.script["wait"] = [gate]
    async with running(database, provider, worker_batch_size=2) as (_, log):
        held = await make_token()
        await gate.entered()
        await _freeze(connection, database, frozen=True)
        waiting = await make_token()
        await log.wait("worker.error", error_type="ReadOnlyError", role="dispatcher")
        gate.open()
        await log.wait("worker.error", error_type="ReadOnlyError", role="settler")
        statuses = [(await token_row(token))["status"] for token in (held, waiting)]
        await _freeze(connection, database, frozen=False)
        await log.wait("token.generation.succeeded", times=2)

    assert statuses == ["generating", "detected"]
    assert len(provider.asked("create")) == 2
    assert len(log.of("worker.error", role="dispatcher")) == 1
    assert [(await token_row(token))["generation_attempts"] for token in (held, waiting)] == [0, 0]


@pytest.mark.anyio
async def test_a_worker_that_finds_a_read_only_database_begins_once_that_is_lifted(database, connection, make_token):
    await make_token()
    await _freeze(connection, database, frozen=True)
    async with running(database, DirectedProvider(), connected=False) as (_, log):
        await log.wait("worker.error", error_message="the database is read-only")
        await _freeze(connection, database, frozen=False)
        await log.wait("token.generation.succeeded")


@pytest.mark.anyio
async def test_health_says_that_a_database_is_read_only_and_that_it_is_no_longer(
    database, connection, open_session, monkeypatch
):
    monkeypatch.setattr("reactor.health.LOOK_EVERY", 0.0)
    session = open_session(database, writes=True)
    health = Health(session, "tokens_s0", slots=10)
    await session.fetch("SET default_transaction_read_only = on")  # as a reload does to connections that are open
    told = [await health.ready(), await health.ready()]
    session.drop()
    for frozen in (True, False):
        await _freeze(connection, database, frozen=frozen)
        told.append(await health.ready())

    assert [(ready, body["database"]) for ready, body in told] == [
        (False, "read-only"),
        (True, "ok"),
        (False, "read-only"),
        (True, "ok"),
    ]


def test_commands_read_a_database_that_takes_no_writes_and_say_why_they_cannot_write(database, reactor):
    command(database, inherited(database, "default_transaction_read_only", "on"))

    assert reactor("status")[0] == 0
    assert reactor("pause") == (1, "", "Error: the database is read-only\n")
