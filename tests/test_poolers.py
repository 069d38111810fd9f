"""Poolers that do not show themselves. `tests/pgbouncer` has a real one."""

import asyncpg.connection
import pytest
from doubles import DirectedProvider, refuse, running
from pooler import pooler

from reactor.database.connections import DatabaseError, RolledBackError, dial
from reactor.database.store import Store
from reactor.engine.timings import Timings

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("ignores", [False, True], ids=["refuses", "ignores"])
async def test_a_pooler_that_ignores_our_parameters_is_known_by_its_process(database, ignores):
    async with pooler(database, ignores=ignores) as through:
        connection, pooled = await dial(through, name="test")
        answer = await connection.fetchval("SELECT count(*) FROM pg_prepared_statements")
        await connection.close()

    assert pooled
    assert answer == 0


async def test_the_server_itself_is_no_pooler(database):
    connection, pooled = await dial(database, name="test")
    await connection.close()

    assert not pooled


def next_names(count):
    """The names that the driver will give to the next statements."""
    last = asyncpg.connection._uid
    return [f"__asyncpg_stmt_{number:x}__" for number in range(last + 1, last + 1 + count)]


LOST = {
    "26000": lambda: "DEALLOCATE ALL",
    "42P05": lambda: ";".join(f'PREPARE "{name}" AS SELECT 7' for name in next_names(9)),
}


@pytest.mark.parametrize("lose", LOST.values(), ids=LOST)
async def test_a_statement_whose_preparation_is_lost_is_sent_again_without_one(database, open_session, lose):
    session = open_session(database)
    await session.fetch("SELECT 1 AS one")
    await session._connection.execute(lose())

    for _ in range(3):
        assert await session.fetch("SELECT 1 AS one") == [(1,)]
        assert await session.fetch("SELECT 2 AS two") == [(2,)]

    assert await session.fetch("SELECT name FROM pg_prepared_statements") == []


async def test_what_is_lost_behind_a_known_pooler_is_an_error(database, open_session):
    session = open_session(database, pooled=True)

    with pytest.raises(RolledBackError, match="InvalidSQLStatementName"):
        await session.fetch("EXECUTE nothing")

    assert await session.fetch("SELECT 1") == [(1,)]


async def test_a_hosts_trigger_that_raises_the_same_code_is_no_pooler(database, connection, make_token, open_session):
    await refuse(connection, "true", state="26000")
    await make_token()
    session = open_session(database)

    with pytest.raises(DatabaseError, match="not this one"):
        await session.fetch("UPDATE public.tokens_s0 SET image_url = 'x'")

    assert len(await session.fetch("SELECT name FROM pg_prepared_statements")) > 0


QUICK = Timings(probe_within=0.1, first_reconnect=0.01)
LOCKS = """
    SELECT count(*) FROM pg_locks
    WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


async def test_a_listener_behind_a_pooler_takes_no_lock_before_it_has_heard(database, connection):
    """In transaction mode the lock would stay with a session of the server's, which serves others next."""
    locks = []

    class Deaf(Store):
        async def ring(self, channel):  # no notification arrives
            locks.append(await connection.fetchval(LOCKS))

    async with pooler(database, ignores=True) as through:
        given = {"connected": False, "timings": QUICK, "listen_database_url": through}
        async with running(database, DirectedProvider(), store=Deaf, **given) as (_, log):
            await log.wait("listener.degraded")

    assert set(locks) == {0}


async def test_a_listener_behind_a_pooler_that_keeps_sessions_takes_its_lock(database, connection, make_token):
    async with (
        pooler(database) as through,
        running(database, DirectedProvider(), listen_database_url=through) as (_, log),
    ):
        await make_token()
        await log.wait("token.generation.succeeded")
        locks = await connection.fetchval(LOCKS)

    assert locks > 0
    assert not log.of("listener.degraded")
