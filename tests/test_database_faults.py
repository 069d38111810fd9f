"""Whatever happens to PostgreSQL, nothing is lost, settled twice or paid twice, and the worker stays up.

Each test pauses one token's generation, causes a fault, lets the generation end, and mints another token as soon as the
database accepts it.
"""

import os
import signal
import time
from collections import Counter
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import replace
from itertools import count
from urllib.parse import urlsplit

import anyio
import asyncpg
import pytest
from conftest import command
from databases import clone, on
from doubles import DirectedProvider, running, until
from proxy import proxied

from reactor.database.timings import ConnectionTimings
from reactor.embedded import EmbeddedPostgres
from reactor.engine.timings import Timings
from reactor.failpoints import switched_on
from reactor.migrations import revisions

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not EmbeddedPostgres.available(), reason="stops and kills a server of its own"),
]
# Only the server crashes here, not the machine, so what it has written survives without fsync. synchronous_commit stays
# on, because a commit must be written before it is answered.
SETTINGS = {"fsync": "off", "full_page_writes": "off", "max_connections": "50", "deadlock_timeout": "300ms"}
ROLES = ("claims", "writes", "renewals", "maintenance", "listener")
OURS = "pid <> pg_backend_pid() AND application_name LIKE 'reactor %' AND datname = current_database()"
LISTENS = f"{OURS} AND application_name = 'reactor listener'"


@pytest.fixture(scope="module")
def server():
    with EmbeddedPostgres(settings=SETTINGS) as server:
        command(server.url(), "CREATE ROLE worker LOGIN", "CREATE DATABASE template_faults")
        _migrate(on(server.url(), "template_faults"))
        yield server
        server.stop(signal.SIGQUIT)  # skips the checkpoint: the data is thrown away


def _migrate(url):
    anyio.run(revisions.upgrade, url)
    command(
        url,
        "GRANT USAGE ON SCHEMA public, reactor TO worker",
        "GRANT ALL ON ALL TABLES IN SCHEMA public, reactor TO worker",
        "CREATE TABLE fault (begun boolean NOT NULL)",
        "GRANT SELECT ON fault TO PUBLIC",
        "INSERT INTO fault VALUES (false)",
    )


@pytest.fixture
def database(server):
    """The URL of a migrated database for the role of workers, which is no superuser: limits bind no superuser."""
    name = anyio.run(clone, server.url(), "template_faults")
    yield on(server.url(), name).replace("postgres@", "worker@", 1)
    command(server.url(), f"DROP DATABASE {name} WITH (FORCE)")


OFTEN = Timings(longest_renewal=0.2)  # so that every role meets every fault soon
# The client's limits too: a half-open connection reaches them.
ANSWERS_SOON = ConnectionTimings(connect_within=0.6, answer_within=0.6)
SOON = replace(OFTEN, probe_every=1.0, probe_within=0.6, connections=ANSWERS_SOON)


class Operator:
    """A superuser beside the worker, with a new connection for every statement."""

    def __init__(self, database):
        self._url = urlsplit(database)._replace(netloc=f"postgres@127.0.0.1:{urlsplit(database).port}").geturl()

    @asynccontextmanager
    async def connected(self):
        connection = await asyncpg.connect(self._url)
        try:
            yield connection
        finally:
            await connection.close()

    async def do(self, statement, *arguments):
        async with self.connected() as connection:
            return await connection.fetch(statement, *arguments)

    async def mint(self):
        author = "INSERT INTO authors (wallet_address, prompt_text) VALUES (gen_random_uuid(), 'a fox') RETURNING id"
        minted = f"WITH author AS ({author}) INSERT INTO tokens_s0 (author_id) SELECT id FROM author RETURNING token_id"
        return (await self.do(minted))[0]["token_id"]

    async def tokens(self):
        return await self.do("SELECT * FROM tokens_s0 ORDER BY token_id")

    async def until(self, condition):
        async with self.connected() as connection:
            await until(lambda: connection.fetchval(f"SELECT {condition}"))

    async def fault(self, *, begun):
        await self.do("UPDATE fault SET begun = $1", begun)

    async def harm(self, when, what):
        """Make updates of tokens do `what` if `when` is true and the fault has begun."""
        body = f"IF {when} AND (SELECT begun FROM public.fault) THEN {what}; END IF; RETURN NEW;"
        await self.do(f"CREATE FUNCTION harm() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$")
        await self.do("CREATE TRIGGER harm BEFORE UPDATE ON tokens_s0 FOR EACH ROW EXECUTE FUNCTION harm()")


class Case:
    """A worker with one generation under way."""

    def __init__(self, database, worker, log, provider, end):
        self.operator = Operator(database)
        self.worker = worker
        self.log = log
        self.provider = provider
        self.end = end  # set: the generation that is under way ends
        self.back_at = 0.0

    async def troubled(self, *roles):
        """Wait until each of these roles has reported the fault."""
        for role in roles:
            await self.log.wait("worker.error", role=role)

    def back(self):
        """Note that the fault ends now."""
        self.back_at = time.monotonic()

    async def recovers(self):
        """Mint once more. All tokens become images, each is bought once, and no attempt or rescue is counted."""
        self.back()
        await self.operator.mint()
        with anyio.fail_after(15):
            minted = len(await self.operator.tokens())
            await self.log.wait("token.generation.succeeded", times=minted)
        tokens = await self.operator.tokens()
        assert [token["status"] for token in tokens] == ["uploading"] * minted
        assert [token["generation_attempts"] for token in tokens] == [0] * minted
        assert [token["generation_rescues"] for token in tokens] == [0] * minted
        assert len(self.provider.asked("create")) == minted
        assert not self.log.of("token.lease_lost")

    def told(self):
        """The number of errors that each role reported."""
        return Counter(told["role"] for told in self.log.of("worker.error"))

    def told_kinds(self):
        """The number of errors of each type that each role reported."""
        return Counter((told["role"], told["error_type"]) for told in self.log.of("worker.error"))


@asynccontextmanager
async def working(database, *, through=None, timings=OFTEN, **overrides):
    """Run a case, whose worker must stop cleanly at the end and must report each type of error once."""
    provider, under_way, end = DirectedProvider(), anyio.Event(), anyio.Event()

    async def held(_argument):
        under_way.set()
        await end.wait()

    provider.script["wait"] = [held]
    with anyio.fail_after(40):
        async with running(through or database, provider, timings=timings, **overrides) as (worker, log):
            case = Case(database, worker, log, provider, end)
            await case.operator.mint()
            with anyio.fail_after(10):
                await under_way.wait()
            await case.operator.until("count(generation_prediction_id) = 1 FROM tokens_s0")
            await case.operator.until(f"count(*) = {len(ROLES)} FROM pg_stat_activity WHERE {OURS}")
            yield case
            worker.stop()
            with anyio.fail_after(5):
                await log.wait("worker.stopped")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT, signal.SIGKILL], ids=["fast", "immediate", "killed"])
async def test_a_restart_is_waited_for(server, database, how):
    async with working(database) as case:
        server.stop(how)
        case.end.set()
        await case.troubled("settler", "leases")
        server.start()
        await case.recovers()

    assert case.told() <= Counter(settler=1, leases=1, dispatcher=1, sweep=1)
    assert len(case.log.of("listener.lost")) == 1


async def test_a_database_that_is_absent_at_the_start_is_waited_for(server, database):
    operator, provider = Operator(database), DirectedProvider()
    await operator.mint()
    server.stop()
    with anyio.fail_after(20):
        async with running(database, provider, connected=False) as (_, log):
            await log.wait("worker.error", role="worker")
            server.start()
            await log.wait("token.generation.succeeded")
            await operator.mint()
            await log.wait("token.generation.succeeded", times=2)

    assert len(log.of("worker.error")) == 1
    assert len(provider.asked("create")) == 2


async def test_a_crash_of_one_backend_which_restarts_them_all_is_waited_for(database):
    async with working(database) as case:
        (row,) = await case.operator.do(f"SELECT min(pid) AS pid FROM pg_stat_activity WHERE {OURS}")
        os.kill(row["pid"], signal.SIGKILL)
        await case.log.wait("listener.lost")
        case.end.set()
        await case.log.wait("listener.connected", times=2)
        await case.recovers()

    assert max(case.told_kinds().values(), default=1) == 1


async def test_a_frozen_database_is_waited_for(server, database):
    async with working(database, timings=SOON) as case:
        frozen = [
            row["pid"]
            for row in await case.operator.do("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        ]
        frozen.append(server.pid)
        try:
            for pid in frozen:
                with suppress(ProcessLookupError):  # an operator's, which was about to end
                    os.kill(pid, signal.SIGSTOP)
            case.end.set()
            await case.troubled("settler", "leases")
        finally:
            for pid in frozen:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        await case.recovers()

    assert max(case.told_kinds().values()) == 1


@pytest.mark.parametrize("role", ROLES)
async def test_a_connection_that_is_terminated_is_opened_again(database, role):
    async with working(database) as case:
        ours = f"FROM pg_stat_activity WHERE {OURS} AND application_name = 'reactor {role}'"
        (row,) = await case.operator.do(f"SELECT pid, pg_terminate_backend(pid, 5000) {ours}")
        await case.operator.mint()
        await case.operator.until(f"count(*) = 1 {ours} AND pid <> {row['pid']}")
        case.end.set()
        await case.recovers()

    assert max(case.told_kinds().values(), default=1) == 1


async def test_all_connections_terminated_are_opened_again(database):
    async with working(database) as case:
        await case.operator.do(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {OURS}")
        case.end.set()
        await case.recovers()

    assert max(case.told_kinds().values(), default=1) == 1


@pytest.mark.parametrize("how", ["refuse", "swallow"])
async def test_a_network_that_is_away_is_waited_for(database, how):
    async with proxied(database) as proxy, working(database, through=proxy.url, timings=SOON) as case:
        getattr(proxy, how)()
        case.end.set()
        await case.operator.mint()
        await case.troubled("settler", "leases")
        proxy.heal()
        await case.recovers()

    assert max(case.told_kinds().values()) == 1


async def test_connections_that_are_cut_are_opened_again(database):
    async with proxied(database) as proxy, working(database, through=proxy.url) as case:
        proxy.cut()
        case.end.set()
        await case.recovers()

    assert max(case.told_kinds().values(), default=1) == 1


@pytest.mark.parametrize(
    ("connection", "role"),
    [("claims", "dispatcher"), ("writes", "settler"), ("renewals", "leases"), ("maintenance", "sweep")],
)
async def test_a_connection_that_is_half_open_is_replaced(database, connection, role):
    alone = {
        "probe_every": 3600.0,
        "check_every": 3600.0,
    }  # nobody but the sweep uses the connection, and meets the fault
    timings = replace(SOON, **alone) if connection == "maintenance" else SOON
    async with proxied(database) as proxy, working(database, through=proxy.url, timings=timings) as case:
        proxy.swallow(f"reactor {connection}")
        await case.operator.mint()
        if connection == "maintenance":  # a claim that finds nothing makes the sweep ask for the next due time
            await case.operator.do("NOTIFY public_tokens_s0_wake")
        if connection != "renewals":
            case.end.set()
        await case.troubled(role)
        case.end.set()
        await case.recovers()

    assert case.told() == {role: 1}
    assert not case.log.of("listener.lost")


@pytest.mark.parametrize("probe_within", [0.6, 20.0], ids=["the probe's limit", "the question's limit"])
async def test_a_listener_that_is_half_open_is_lost_and_no_poolers(database, probe_within):
    swallowed = count(1)
    timings = replace(SOON, probe_within=probe_within)
    async with proxied(database) as proxy, working(database, through=proxy.url, timings=timings) as case:
        with ExitStack() as stack:

            async def swallow():
                """Break the connection before its first query, three times in a row."""
                proxy.swallow("reactor listener")
                if next(swallowed) < 3:
                    stack.enter_context(switched_on("listening", swallow))

            stack.enter_context(switched_on("listening", swallow))
            await case.operator.do(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {LISTENS}")
            await case.log.wait("listener.lost", times=4)
        case.end.set()
        await case.recovers()

    said = [told["error_message"] for told in case.log.of("listener.lost")]
    assert said[1:] == ["the connection does not answer"] * 3
    assert not case.log.of("listener.degraded")


async def test_after_a_long_break_of_the_network_the_listener_is_soon_proven(database):
    async with proxied(database) as proxy, working(database, through=proxy.url, timings=SOON) as case:
        (old,) = await case.operator.do(f"SELECT pid FROM pg_stat_activity WHERE {LISTENS}")
        proxy.swallow()
        await case.log.wait("listener.lost")
        await case.troubled("leases")
        proxy.heal()
        await case.log.wait("listener.connected", times=2)
        await case.operator.until(f"count(*) = 2 FROM pg_stat_activity WHERE {LISTENS}")
        await case.operator.do("SELECT pg_terminate_backend($1, 5000)", old["pid"])
        (started,) = case.log.of("worker.started")
        await case.operator.until(
            "EXISTS (SELECT FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory'"
            f" AND (classid::bigint << 32 | objid::bigint) = {started['worker']} AND {LISTENS})"
        )
        case.end.set()
        await case.recovers()

    assert not case.log.of("listener.degraded")


async def test_a_renewal_without_an_answer_costs_no_lease(database):
    async with proxied(database) as proxy, working(database, through=proxy.url, lease_seconds=3) as case:
        proxy.swallow("reactor renewals")
        began = time.monotonic()
        await case.troubled("leases")
        await case.operator.until("min(generation_lease_ends_at) > clock_timestamp() + interval '2.5 s' FROM tokens_s0")
        renewed_after = time.monotonic() - began
        case.end.set()
        await case.recovers()

    assert renewed_after < 2.5


async def test_the_first_to_find_the_database_back_wakes_the_others(server, database):
    timings = replace(OFTEN, first_reconnect=3600.0, longest_reconnect=3600.0)  # the sweep looks sooner
    async with working(database, timings=timings, poll_interval_seconds=0.2) as case:
        server.stop()
        case.end.set()
        case.worker._wake.ring()  # the dispatcher, which waits for a ring, is to meet the fault too
        await case.troubled("settler", "leases", "dispatcher")
        server.start()
        await case.recovers()


async def test_a_standby_is_waited_for_until_it_is_promoted(server, database):
    async with working(database) as case:
        server.stop()
        (server.log.parent / "data" / "standby.signal").touch()
        server.start()
        case.end.set()
        await case.troubled("settler", "leases")
        await case.operator.do("SELECT pg_promote()")
        await case.recovers()

    assert max(case.told_kinds().values()) == 1


async def test_a_database_without_a_free_connection_is_waited_for(database):
    async with working(database) as case:
        await case.operator.do("ALTER ROLE worker CONNECTION LIMIT 0")
        try:
            await case.operator.do(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {OURS}")
            case.end.set()
            await case.operator.mint()
            await case.troubled("settler", "leases")
        finally:
            await case.operator.do("ALTER ROLE worker CONNECTION LIMIT -1")
        await case.recovers()

    assert max(case.told_kinds().values()) == 1
    told = case.log.of("worker.error", role="settler", error_type="TooManyConnectionsError")
    assert "too many connections" in told[0]["error_message"]


async def test_a_statement_that_takes_too_long_is_repeated(database):
    timings = replace(OFTEN, connections=ConnectionTimings(statement_timeout=0.8))
    async with working(database, timings=timings) as case:
        await case.operator.harm("NEW.status = 'uploading'", "PERFORM pg_sleep(30)")
        await case.operator.fault(begun=True)
        case.end.set()
        await case.troubled("settler")
        await case.operator.fault(begun=False)
        await case.recovers()

    assert case.told() == Counter(settler=1)


async def test_a_deadlock_is_broken_and_the_claim_repeated(database):
    async with working(database) as case:
        # Tried again, because on a loaded machine the claim may look for a deadlock before there is one: `other` then
        # finds it.
        while not (told := case.log.of("worker.error", role="dispatcher")):
            with suppress(asyncpg.DeadlockDetectedError):
                await deadlock(case)
        case.end.set()
        await case.recovers()

    assert "deadlock" in told[0]["error_message"]
    assert case.told() == Counter(dispatcher=1)


async def deadlock(case):
    """Have a claim and a transaction wait for each other."""
    async with case.operator.connected() as other, other.transaction():
        await other.execute("UPDATE reactor.intake SET reason = reason")
        token_id = await case.operator.mint()
        waits = f"{other.get_server_pid()} = ANY (pg_blocking_pids(pid))"
        await case.operator.until(f"EXISTS (SELECT FROM pg_stat_activity WHERE {OURS} AND {waits})")
        await other.execute("UPDATE tokens_s0 SET created_at = created_at WHERE token_id = $1", token_id)
        await case.log.wait("worker.error", role="dispatcher")


async def test_a_table_that_is_locked_is_waited_for(database):
    timings = replace(OFTEN, connections=ConnectionTimings(lock_timeout=0.3))
    async with working(database, timings=timings) as case:
        async with case.operator.connected() as other, other.transaction():
            await other.execute("LOCK TABLE tokens_s0 IN ACCESS EXCLUSIVE MODE")
            case.end.set()
            await case.troubled("settler", "leases")
        await case.recovers()

    assert max(case.told_kinds().values()) == 1


async def test_a_full_disk_is_waited_for(database):
    async with working(database) as case:
        await case.operator.harm("true", "RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'")
        await case.operator.fault(begun=True)
        case.end.set()
        await case.operator.mint()
        await case.troubled("settler", "leases", "dispatcher")
        await case.operator.fault(begun=False)
        await case.recovers()

    assert case.told() == Counter(settler=1, leases=1, dispatcher=1)
