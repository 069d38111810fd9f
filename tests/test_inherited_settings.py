"""What a worker, the commands and the migrations inherit from the settings of role and database."""

import pytest
from conftest import command
from doubles import Barrier, DirectedProvider, running
from hosts import inherited
from pooler import pooler

from reactor.engine.health import Health
from reactor.engine.timings import Timings

# Odd settings, all at once, as hosts' databases have them.
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
    """The statements that set each of ODD that the server knows."""
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
    """The synchronous_commit of each write of a worker."""
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
    """Make new connections read-only, as operators do before a switchover, and end the worker's old ones."""
    await connection.execute(inherited(url, "default_transaction_read_only", "on" if frozen else "off"))
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name LIKE 'reactor %'"
    )


@pytest.mark.anyio
async def test_a_database_that_was_made_read_only_is_waited_for(database, connection, make_token, token_row):
    provider, gate = DirectedProvider(), Barrier()
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
    assert len(log.of("worker.error", role="dispatcher", error_type="ReadOnlyError")) == 1
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
async def test_health_says_that_a_database_is_read_only_and_that_it_is_no_longer(database, connection, open_session):
    session = open_session(database, writes=True)
    health = Health(session, "tokens_s0", slots=10, timings=Timings(health_every=0.0))
    await session.fetch("SET default_transaction_read_only = on")  # a reload does this to open connections
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
