import anyio
import asyncpg
import pytest
from conftest import ASYNCIO, UVLOOP
from doubles import DirectedProvider, running
from proxy import NOTICE, ROW, proxied

from reactor.database.connections import (
    ConnectionLostError,
    DatabaseError,
    RowRefusedError,
)
from reactor.database.driver_words import LONGEST_MESSAGE, kind_and_message
from reactor.database.session import Session
from reactor.engine.timings import TIMINGS, Timings
from reactor.engine.wake.listener import Listener
from reactor.text.redaction import Redactor

pytestmark = pytest.mark.anyio

SHOUTS = """
    CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN RAISE EXCEPTION 'bad url %', repeat('x', 3000000) USING ERRCODE = '{state}'; END $$;
    CREATE TRIGGER shout BEFORE UPDATE ON tokens_s0 FOR EACH ROW EXECUTE FUNCTION shout()
"""
CONFUSED = "^InternalClientError: cannot switch to state"


async def test_a_connection_that_confuses_its_driver_is_lost_and_opened_anew(database, open_session):
    async with proxied(database) as proxy:
        session = open_session(proxy.url)
        before = await session.fetch("SELECT pg_backend_pid() AS pid")
        proxy.interject(after=ROW)
        await session.fetch("SELECT 1")

        with pytest.raises(ConnectionLostError, match=CONFUSED):
            await session.fetch("SELECT 1")

        assert await session.fetch("SELECT pg_backend_pid() AS pid") != before


async def test_a_listener_whose_driver_is_confused_connects_anew(database, make_token):
    async with (
        proxied(database) as proxy,
        running(proxy.url, DirectedProvider(), timings=Timings(probe_every=0.05)) as (_, log),
    ):
        proxy.interject(after=ROW, name="reactor listener")
        await log.wait("listener.lost")
        await make_token()
        await log.wait("token.generation.succeeded")


def terminate_within_the_next_statement(connection, proxy):
    """Terminate the driver's connection between the answer to a statement's first step and its second step."""
    connection.add_log_listener(lambda connection, _message: connection.terminate())
    proxy.interject(before=NOTICE)


async def test_a_connection_that_another_task_terminates_within_a_statement_is_lost(open_session, database):
    async with proxied(database) as proxy:
        session = open_session(proxy.url)
        await session.fetch("SELECT 1")
        terminate_within_the_next_statement(session._connection, proxy)

        with pytest.raises(ConnectionLostError, match="the connection was terminated"):
            await session.fetch("SELECT 2")

        assert await session.fetch("SELECT 2")


async def test_a_question_on_the_listeners_connection_that_is_terminated_within_it_is_lost(database, connect_to):
    async with proxied(database) as proxy:
        connection = await connect_to(proxy.url)
        ask = Listener(database, None, None, None, None, worker=1, timings=TIMINGS)._asking(connection, None)
        terminate_within_the_next_statement(connection, proxy)

        with pytest.raises(asyncpg.InterfaceError, match="the connection was terminated"):
            await ask("SELECT 1")


@pytest.fixture
async def open_session():
    """Open sessions, and drop them at the end, because uvloop cannot close while one is open."""
    opened = []

    def open_another(url):
        opened.append(Session(url, name="reactor test"))
        return opened[-1]

    yield open_another
    for session in opened:
        session.drop()


@pytest.mark.parametrize("anyio_backend", [UVLOOP, ASYNCIO], indirect=True)
async def test_a_server_that_said_goodbye_and_is_not_gone_yet_is_a_lost_connection(database, connection, open_session):
    with anyio.fail_after(10):
        async with proxied(database) as proxy:
            proxy.linger()
            session = open_session(proxy.url)
            await session.fetch("SELECT 1")
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'reactor test'"
            )
            await proxy.ended.wait()
            await anyio.wait_all_tasks_blocked()

            with pytest.raises(ConnectionLostError):
                await session.fetch("SELECT 1")
            assert await session.fetch("SELECT 1")


async def test_a_statement_that_is_cancelled_drops_its_connection(database, open_session):
    session = open_session(database)
    (before,) = await session.fetch("SELECT pg_backend_pid()")
    with anyio.move_on_after(0.05):
        await session.fetch("SELECT pg_sleep(30)")
    (after,) = await session.fetch("SELECT pg_backend_pid()")

    assert before != after


async def test_a_server_that_became_a_standby_is_left_for_whoever_is_the_primary_now(database, open_session):
    session = open_session(database)
    await session.fetch("SET default_transaction_read_only = on")

    with pytest.raises(ConnectionLostError, match="read-only"):
        await session.fetch("UPDATE reactor.intake SET reason = reason")
    await session.fetch("UPDATE reactor.intake SET reason = reason")


@pytest.mark.parametrize("value", ["a secret wish \ud800", ["a secret wish", "\ud800"]])
async def test_what_the_driver_cannot_encode_is_not_repeated(database, value):
    session = Session(database, name="test")

    with pytest.raises(RowRefusedError, match=r"^DataError: a value that PostgreSQL cannot take$"):
        await session.fetch(f"SELECT $1::{'text[]' if isinstance(value, list) else 'text'}", value)

    await session.aclose()


@pytest.mark.parametrize("state", ["P0001", "42501", "40001", "42P01", "08006"])
async def test_of_what_a_hosts_trigger_says_no_more_is_kept_than_can_be_told(
    connection, database, make_token, open_session, state
):
    await connection.execute(SHOUTS.format(state=state))
    await make_token()

    with pytest.raises(DatabaseError) as refused:
        await open_session(database).fetch("UPDATE public.tokens_s0 SET image_url = 'x'")

    assert "bad url xxx" in str(refused.value)
    assert 8000 < len(str(refused.value)) < 11_000
    assert Redactor()(str(refused.value)).endswith("x…")


async def test_a_secret_at_the_cut_of_an_error_is_not_told_by_half():
    secret = "s3cret-" * 30
    said = kind_and_message(asyncpg.RaiseError("x" * (LONGEST_MESSAGE - 50) + secret))

    assert "s3cret" not in Redactor([secret])(said, longest=20_000)
