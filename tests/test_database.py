import asyncpg
import pytest
from doubles import DirectedProvider, running

from reactor.database import ConnectionLostError, Session

pytestmark = pytest.mark.anyio

CONFUSED = asyncpg.InternalClientError("cannot switch to state 11; another operation (2) is in progress")


def failing_once(monkeypatch, name, error):
    """Let the driver's next call fail."""
    original = getattr(asyncpg.Connection, name)

    async def fails(*_arguments, **_named):
        monkeypatch.setattr(asyncpg.Connection, name, original)
        raise error

    monkeypatch.setattr(asyncpg.Connection, name, fails)


async def test_a_connection_that_confuses_its_driver_is_lost_and_opened_anew(database, monkeypatch):
    session = Session(database, name="test")
    before = await session.fetch("SELECT pg_backend_pid() AS pid")
    failing_once(monkeypatch, "fetch", CONFUSED)

    with pytest.raises(ConnectionLostError):
        await session.fetch("SELECT 1")

    assert await session.fetch("SELECT pg_backend_pid() AS pid") != before
    await session.aclose()


async def test_a_listener_whose_driver_is_confused_connects_anew(database, make_token, monkeypatch):
    failing_once(monkeypatch, "add_listener", CONFUSED)
    async with running(database, DirectedProvider(), idle=False) as (_, log):
        await log.wait("listener.lost")
        await make_token()
        await log.wait("token.generation.succeeded")
