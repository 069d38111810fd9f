"""How many connections a worker takes, and what it does if the server has few left."""

from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from math import inf
from urllib.parse import urlsplit, urlunsplit

import anyio
import pytest
from conftest import command
from doubles import Barrier, DirectedProvider, Log, settings, until
from doubles import running as running_with

from reactor.application import health_of
from reactor.database.session import Session
from reactor.database.store import Store
from reactor.database.table import plain_query
from reactor.database.timings import ConnectionTimings
from reactor.engine.health import Health
from reactor.engine.timings import Timings
from reactor.telemetry import Telemetry
from reactor.tokens import Batch
from reactor.web import Site

pytestmark = pytest.mark.anyio

REST = {"listener", "claims", "maintenance"}
WORK = REST | {"writes", "renewals"}


@pytest.fixture
def connections(connection):
    """Wait until a worker has exactly the connections of the given roles."""

    async def are(expected):
        query = (
            "SELECT array_agg(split_part(application_name, ' ', 2)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name LIKE 'reactor %'"
        )

        async def agree():
            return sorted(await connection.fetchval(query) or ()) == sorted(expected)

        await until(agree)

    return are


OFTEN = Timings(longest_renewal=0.02, close_idle_every=0.02)
running = partial(running_with, timings=OFTEN)


def connected_by(**timings):
    return replace(OFTEN, connections=ConnectionTimings(**timings))


@pytest.fixture
def limit(database):
    """Set the database's connection limit. It refuses nobody here, because the tests' role is a superuser."""

    async def to(connection, number):
        await connection.execute(f"ALTER DATABASE {urlsplit(database).path[1:]} CONNECTION LIMIT {number}")

    yield to
    command(database, f"ALTER DATABASE {urlsplit(database).path[1:]} CONNECTION LIMIT -1")


async def test_a_worker_takes_three_connections_five_while_it_works_and_three_again(database, make_token, connections):
    provider, gate, rested = DirectedProvider(), Barrier(), anyio.Event()

    class Rested(Store):
        async def close_idle(self):
            if rested.is_set():
                self._writes._used_at = self._renewals._used_at = float("-inf")
            await super().close_idle()

    provider.script["wait"] = [gate]
    async with running(database, provider, store=Rested) as (_, log):
        await connections(REST)
        await make_token()
        await gate.entered()
        await connections(WORK)
        gate.open()
        await log.wait("token.generation.succeeded")
        rested.set()
        await connections(REST)
        await make_token()
        await log.wait("token.generation.succeeded", times=2)


async def test_the_connection_of_the_claims_is_replaced_before_a_mint_needs_it(database, connection, connections):
    started = anyio.Event()

    class ClaimingNothing(Store):
        async def claim(self, *arguments):  # which would open a connection too
            return Batch() if started.is_set() else await super().claim(*arguments)

    timings = connected_by(proven_for=0.0)
    async with running(database, DirectedProvider(), timings=timings, store=ClaimingNothing):
        started.set()
        await connections(REST)
        await connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name LIKE 'reactor claims%' AND datname = current_database()"
        )
        await connections(REST)


async def test_the_last_connections_are_left_to_others(database, connection, make_token, connections, limit):
    provider, gate = DirectedProvider(), Barrier()
    await limit(connection, 5)  # one of the test, two of the worker: fewer than three are left
    async with running(database, provider, timings=connected_by(crowded_for=0.0), worker_batch_size=2) as (_, log):
        for times in range(1, 4):
            await make_token()
            await log.wait("token.generation.succeeded", times=times)
        await connections({"listener", "maintenance"})
        provider.script["wait"] = [gate]
        await make_token()
        await gate.entered()
        await limit(connection, 100)
        await make_token()
        await log.wait("token.generation.succeeded", times=4)
        await connections(WORK)
        gate.open()

    assert not log.of("worker.error")


@asynccontextmanager
async def limited_role(database, connection, limit):
    """A role that a worker can run as, with at most `limit` connections; yield the database's URL for it, and it."""
    role = f"{urlsplit(database).path[1:]}_limited"
    parts = urlsplit(database)
    await connection.execute(
        f"CREATE ROLE {role} LOGIN PASSWORD 'x' CONNECTION LIMIT {limit};"
        f"GRANT USAGE ON SCHEMA reactor TO {role};"
        f"GRANT ALL ON ALL TABLES IN SCHEMA public, reactor TO {role}"
    )
    try:
        yield urlunsplit(parts._replace(netloc=f"{role}:x@{parts.netloc.rpartition('@')[2]}")), role
    finally:
        await connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.mark.parametrize(("granted", "expected"), [(2, {"listener", "maintenance"}), (1, {"maintenance"})])
async def test_a_worker_goes_on_with_the_connections_that_it_has(
    server_url, database, connection, connections, make_token, granted, expected
):
    connected = "listener" in expected
    async with (
        limited_role(database, connection, granted) as (url, _),
        running(url, DirectedProvider(), connected=connected, poll_interval_seconds=0.1) as (_, log),
    ):
        await make_token()
        await log.wait("token.generation.succeeded")
        await connections(expected)

    assert not log.of("worker.error")


async def test_a_listener_that_gets_no_connection_takes_that_of_the_claims(
    database, connection, connections, make_token
):
    terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'reactor listener'"
    async with (
        limited_role(database, connection, -1) as (url, role),
        running(url, DirectedProvider()) as (_, log),
    ):
        await connections(REST)
        await connection.execute(f"ALTER ROLE {role} CONNECTION LIMIT 2")
        await connection.execute(f"{terminate} AND datname = current_database()")
        await log.wait("listener.connected", times=2)
        await make_token()
        await log.wait("token.generation.succeeded")
        await connections({"listener", "maintenance"})


async def test_a_worker_that_gets_no_connection_waits_for_one(database, connection, make_token):
    async with (
        limited_role(database, connection, 0) as (url, role),
        running(url, DirectedProvider(), connected=False) as (_, log),
    ):
        await log.wait("worker.error")
        await connection.execute(f"ALTER ROLE {role} CONNECTION LIMIT -1")
        await make_token()
        await log.wait("token.generation.succeeded")

    assert log.of("worker.error", role="worker", error_type="TooManyConnectionsError")


@pytest.mark.parametrize(("max_connections", "others", "crowded"), [(20, 1, False), (5, 1, True), (100, 1, False)])
async def test_a_server_is_crowded_with_fewer_than_three_connections_left(connection, max_connections, others, crowded):
    query = plain_query("crowded").replace("current_setting('max_connections')", f"'{max_connections}'")

    assert await connection.fetchval(query) is crowded


async def test_the_connections_of_the_page_are_closed_when_nobody_looks(database, connections):
    given = settings(database)
    async with health_of(given) as health:
        site = Site(given, Telemetry(Log()), health)
        try:
            await site.reads.overview()
            await site.reads.table()
            await health.close_idle()
            await connections(["page", "page"])
            site.reads._state._used_at = site.reads.session._used_at = float("-inf")
            await health.close_idle()
            await connections(set())
        finally:
            await site.aclose()


async def test_health_asks_through_the_worker_where_the_server_is_crowded(database, connection, limit, monkeypatch):
    monkeypatch.setattr("reactor.engine.health.READY_WITHIN", inf)  # a loaded machine may exceed it
    await limit(connection, 2)
    own, workers = Session(database, name="health of a test"), Session(database, name="maintenance of a test")
    health = Health(own, "tokens_s0", slots=10)
    health.attach(in_use=lambda: 0, proven=lambda: True, blocked=lambda: False, stand_in=workers)
    try:
        ready, _ = await health.ready()
        names = {row[0] for row in await connection.fetch("SELECT application_name FROM pg_stat_activity")}
    finally:
        own.drop()
        workers.drop()

    assert ready
    assert "maintenance of a test" in names
    assert "health of a test" not in names
