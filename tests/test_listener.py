import anyio
import pytest
from doubles import DirectedProvider, running
from strangers import stranger

from reactor.database.connections import ConnectionLostError
from reactor.database.store import Store
from reactor.engine.timings import TIMINGS, Timings

pytestmark = pytest.mark.anyio


@pytest.fixture
def provider():
    return DirectedProvider()


@pytest.fixture
def held(provider):
    """Hold the first generation for ever, so that the test can read its row."""

    async def hold(_argument):
        await anyio.sleep_forever()

    provider.script["wait"] = [hold]


async def test_a_listener_whose_connection_is_terminated_comes_back_and_wakes(
    database, provider, connection, make_token
):
    class NothingDue(Store):
        async def next_due(self):
            return None

    # As if another worker were on watch: a worker that goes on watch claims too.
    await connection.execute("SELECT pg_advisory_lock(hashtextextended('public_tokens_s0_wake', 0))")
    await connection.execute("ALTER TABLE tokens_s0 DISABLE TRIGGER USER")
    timings = Timings(watch_every=0.05)
    async with running(database, provider, timings=timings, store=NothingDue) as (_, log):
        await log.wait("watch.taken_elsewhere")
        await make_token()
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'reactor listener' AND datname = current_database()"
        )
        await log.wait("listener.lost")
        await log.wait("listener.connected", times=2)
        await log.wait("token.generation.succeeded")

        await connection.execute("SELECT pg_advisory_unlock_all()")
        await log.wait("watch.taken")
        await connection.execute("ALTER TABLE tokens_s0 ENABLE TRIGGER USER")
        await make_token()
        await log.wait("token.generation.succeeded", times=2)

    assert len(log.of("listener.lost")) == 1


async def test_the_first_claim_is_made_under_a_key_whose_liveness_lock_is_held(
    database, provider, connection, make_token, held
):
    await make_token()
    async with running(database, provider) as (_, log):
        await log.wait("token.generation.started")
        worker = await connection.fetchval("SELECT generation_worker FROM tokens_s0")
        free = await connection.fetchval("SELECT pg_try_advisory_lock($1)", worker)

    assert worker > 0
    assert not free


async def test_a_listener_that_hears_no_probe_is_not_proven_and_says_so_once(
    database, provider, connection, make_token, held
):
    probes, often = [], anyio.Event()

    class RingingNothing(Store):
        async def ring(self, channel):
            probes.append(channel)
            if len(probes) > 5:
                often.set()

    timings = Timings(probe_within=0.05, deaf_pause=0.05)
    await make_token()
    async with running(database, provider, timings=timings, store=RingingNothing) as (_, log):
        await log.wait("token.generation.started")
        with anyio.fail_after(10):
            await often.wait()

    assert await connection.fetchval("SELECT generation_epoch FROM tokens_s0") == 1
    assert len(log.of("listener.degraded")) == 1


async def test_a_listener_that_cannot_be_probed_is_not_proven(database, provider, connection, make_token, held):
    class Away(Store):
        async def ring(self, _channel):
            raise ConnectionLostError("the other connection is away")

    await make_token()
    async with running(database, provider, store=Away) as (_, log):
        await log.wait("token.generation.started")
        worker = await connection.fetchval("SELECT generation_worker FROM tokens_s0")

    assert worker < 0
    assert not log.of("listener.lost")


async def test_a_worker_stops_while_its_listener_is_still_being_proven(database, provider, make_token):
    class Ringing(Store):
        async def ring(self, _channel):
            await anyio.sleep_forever()

    await make_token()
    with anyio.fail_after(5):
        async with running(database, provider, store=Ringing, idle=False) as (worker, log):
            worker.stop()
            await log.wait("worker.stopped")

    assert provider.calls == []


def test_a_deaf_connection_is_known_within_15_seconds():
    assert 1.1 * TIMINGS.probe_every + TIMINGS.probe_within <= 15


async def test_a_deaf_listener_is_told_of_once_and_again_when_it_hears(database, provider):
    rings = []

    class RingingElsewhere(Store):
        async def ring(self, channel):
            rings.append(channel)
            await super().ring(channel if len(rings) > 8 else f"{channel}_x")

    timings = Timings(deaf_pause=0.05, probe_within=0.1)
    async with running(database, provider, timings=timings, store=RingingElsewhere, idle=False) as (_, log):
        await log.wait("listener.degraded")
        await log.wait("listener.connected", times=len(log.of("listener.connected")) + 1)

    # On a loaded machine the query before a probe may take longer than `probe_within`.
    lost = [told for told in log.of("listener.lost") if told["error_message"] != "the connection does not answer"]
    assert (len(log.of("listener.degraded")), [told["error_type"] for told in lost]) == (1, ["DeafError"] * 2)


async def test_a_worker_whose_liveness_lock_a_stranger_took_says_so_and_works_on(
    database, provider, connection, connect_to, make_token, until_blocked, held
):
    async with stranger(database) as url, running(database, provider) as (worker, log):
        mallory = await connect_to(url)
        await log.wait("watch.taken")
        async with anyio.create_task_group() as group:
            group.start_soon(mallory.execute, f"SELECT pg_advisory_lock({worker._key})")
            await until_blocked(mallory)
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'reactor listener' AND datname = current_database()"
            )
        told = await log.wait("lock.blocked")
        await log.wait("watch.taken", times=2)  # the listener is proven to hear all the same
        await make_token()
        await log.wait("token.generation.started")
        key = await connection.fetchval("SELECT generation_worker FROM tokens_s0")

    assert (told["lock"], told["held_by"][:9]) == ("liveness", "stranger_")
    assert key == -worker._key
    assert len(log.of("lock.blocked")) == 1
