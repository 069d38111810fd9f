from uuid import UUID

import anyio
import pytest
from conftest import ASYNCIO, UVLOOP
from doubles import Barrier, DirectedProvider, refuse, running

from reactor.database.connections import ConnectionLostError
from reactor.database.rows import Abandoned
from reactor.database.store import Store
from reactor.engine.claim.dispatcher import LARGEST_CLAIM
from reactor.engine.timings import Timings
from reactor.errors import TransientError
from reactor.failpoints import switched_on

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", [UVLOOP, ASYNCIO], indirect=True)]

MINTS = """
    WITH author AS (INSERT INTO authors (wallet_address, prompt_text) VALUES ('0x3', 'a fox') RETURNING id)
    INSERT INTO tokens_s0 (author_id) SELECT author.id FROM author, generate_series(1, {})
"""


# Taken by a session that could be another worker's: then no worker of the test is on watch.
ON_WATCH = "SELECT pg_advisory_lock(hashtextextended('public_tokens_s0_wake', 0))"


class NeverSayingWhenDue(Store):
    """Does not answer when the next token is due."""

    async def next_due(self):
        await anyio.sleep_forever()


@pytest.fixture
def provider():
    return DirectedProvider()


async def test_a_wake_does_not_wait_for_the_next_due_time(database, provider, make_token):
    async with running(database, provider, store=NeverSayingWhenDue) as (_, log):
        await make_token()
        with anyio.fail_after(5):
            await log.wait("token.generation.succeeded")


async def test_a_due_time_that_cannot_be_asked_for_is_told_once_and_the_claims_go_on(
    database, provider, connection, make_token, monkeypatch
):
    class Away(Store):
        async def next_due(self):
            raise ConnectionLostError("too many connections")

    await connection.execute("ALTER TABLE tokens_s0 DISABLE TRIGGER USER")
    async with running(database, provider, timings=Timings(longest_reconnect=0.02), store=Away) as (_, log):
        await log.wait("tokens.claimed", times=5)
        await make_token()
        await log.wait("token.generation.succeeded")

    assert len(log.of("worker.error")) == 1


async def test_a_mint_by_itself_costs_one_claim(database, provider, make_token):
    async with running(database, provider) as (_, log):
        for number in range(1, 21):  # a worker that has just gone on watch looks a few times more
            await make_token()
            await log.wait("token.generation.succeeded", times=number)
            found = [told["count"] for told in log.of("tokens.claimed")]
            if found[-4:] == [1, 1, 1, 1]:
                return

    raise AssertionError(found)


async def test_where_more_wait_than_a_claim_takes_the_next_is_under_way_before_they_start(
    database, provider, connection, monkeypatch
):
    order, noting = [], anyio.Event()

    class Noted(Store):
        async def claim(self, slots, *arguments):
            if not noting.is_set():
                return await super().claim(slots, *arguments)
            place = len(order)
            order.append(f"claim {slots}")
            batch = await super().claim(slots, *arguments)
            if not batch.claims:  # who has just gone on watch looks more than once
                del order[place]
            return batch

    async def started(_given):
        order.append("create")

    provider.script["create"] = [started] * (LARGEST_CLAIM + 1)
    async with running(database, provider, store=Noted, worker_batch_size=LARGEST_CLAIM + 1) as (_, log):
        await log.idle()
        noting.set()
        await connection.execute(MINTS.format(LARGEST_CLAIM + 1))
        await log.wait("token.generation.succeeded", times=LARGEST_CLAIM + 1)

    assert order[:4] == [f"claim {LARGEST_CLAIM}", "claim 1", "create", "create"]


async def test_what_came_in_behind_a_backlog_is_claimed_at_its_end(database, provider, connection, connect):
    backlog, host, behind = 2 * LARGEST_CLAIM + 2, await connect(), []
    minted = """
        INSERT INTO tokens_s0 (author_id, mint_timestamp)
        SELECT author_id, now() - interval '1 hour' FROM tokens_s0 LIMIT 1
    """

    class OneComesInBehind(NeverSayingWhenDue):
        async def claim(self, slots, worker, after):
            if after.fresh is None:
                await anyio.sleep(0.1)  # so slow that it is worth going on behind it for two seconds
            elif not behind:
                behind.append(await host.execute(minted))
            return await super().claim(slots, worker, after)

    await connection.execute("ALTER TABLE tokens_s0 DISABLE TRIGGER USER")
    await connection.execute(MINTS.format(backlog))
    await host.execute(ON_WATCH)  # or else the looks of this worker's bell find it too
    given = {"worker_batch_size": 2 * backlog, "rate_limit_per_minute": 0}
    async with running(database, provider, timings=Timings(longest_onward=60.0), store=OneComesInBehind, **given) as (
        _,
        log,
    ):
        with anyio.fail_after(10):
            await log.wait("token.generation.succeeded", times=backlog + 1)

    assert behind


async def test_a_token_that_goes_back_is_claimed_when_it_is_due_though_slots_are_free(database, provider, make_token):
    provider.script["create"] = [TransientError("a hiccup")]
    async with running(database, provider, poll_interval_seconds=60) as (_, log):
        await make_token()
        with anyio.fail_after(10):
            await log.wait("token.generation.succeeded")


@pytest.mark.parametrize("how", ["fresh", "due"])
async def test_a_token_that_may_not_be_claimed_does_not_block_the_queue(
    database, provider, connection, make_token, how
):
    due = {"generation_due_at": await connection.fetchval("SELECT now()")} if how == "due" else {}
    await connection.execute("ALTER TABLE tokens_s0 DISABLE TRIGGER USER")
    for state in ("P0001", "42501", "0A000", "55000", "55P03", "57014"):
        await connection.execute("TRUNCATE tokens_s0 RESTART IDENTITY")
        tokens = [await make_token(**due) for _ in range(8)]
        await refuse(connection, "NEW.token_id IN (1, 4) AND NEW.status = 'generating'", state=state)
        async with running(database, provider, worker_batch_size=LARGEST_CLAIM + 1) as (_, log):
            await log.wait("token.generation.succeeded", times=6)
        await connection.execute("DROP TRIGGER refuse ON tokens_s0; DROP FUNCTION refuse")

        assert {told["token_id"] for told in log.of("token.generation.succeeded")} == {*tokens} - {1, 4}, state
        told, counted = log.of("worker.error", role="claimer")
        assert {told["token_id"], counted["token_id"]} == {1, 4}, state
        assert counted["count"] == 1, state


async def test_a_token_that_could_not_be_claimed_is_asked_for_again(
    database, provider, connection, make_token, monkeypatch
):
    await refuse(connection, "NEW.status = 'generating'")
    async with running(database, provider, timings=Timings(refused_token=0.2), poll_interval_seconds=0.1) as (_, log):
        await make_token()
        await log.wait("worker.error", role="claimer")
        await connection.execute("DROP TRIGGER refuse ON tokens_s0")
        await log.wait("token.generation.succeeded")

    assert len(log.of("worker.error", role="claimer")) == 1


@pytest.mark.parametrize("before", [0, 1])
async def test_a_claim_that_a_stop_meets_in_flight_is_known_and_handed_back(
    database, provider, make_token, token_row, before
):
    last, committed, stopped = anyio.Event(), anyio.Event(), anyio.Event()

    class AnsweredLate(Store):
        async def claim(self, *arguments):
            batch = await super().claim(*arguments)
            if batch.claims and last.is_set():
                committed.set()
                await stopped.wait()
            return batch

    async with running(database, provider, store=AnsweredLate) as (worker, log):
        for number in range(before):
            await make_token()
            await log.wait("token.generation.succeeded", times=number + 1)
        last.set()
        token_id = await make_token()
        with anyio.fail_after(5):
            await committed.wait()
        worker.stop_now()
        await anyio.wait_all_tasks_blocked()
        stopped.set()
        await log.wait("worker.stopped")

    assert (await token_row(token_id))["status"] != "generating"


async def test_a_token_whose_attempt_a_stop_meets_before_it_begins_is_handed_back(
    database, provider, make_token, token_row
):
    stops = []

    class StoppedThen(Store):
        async def claim(self, *arguments):
            batch = await super().claim(*arguments)
            if batch.claims:  # who has just gone on watch looks more than once
                for stop in stops:
                    stop()
            return batch

    async with running(database, provider, store=StoppedThen) as (worker, log):
        await make_token()
        await log.wait("token.generation.succeeded")
        stops.append(worker.stop_now)
        provider.script["create"] = [Barrier()]
        token_id = await make_token()
        await log.wait("worker.stopped")

    row = await token_row(token_id)
    assert (row["status"], row["generation_epoch"], row["generation_attempts"]) == ("detected", 1, 0)


async def test_after_an_empty_claim_a_forged_wake_has_to_wait(database, provider, connection, monkeypatch):
    async with running(database, provider, timings=Timings(after_empty=3600.0)) as (_, log):
        for _ in range(5):
            await connection.execute("NOTIFY public_tokens_s0_wake")
        with anyio.move_on_after(0.5):
            await log.wait("tokens.claimed", times=2)

    assert len(log.of("tokens.claimed")) == 1


async def test_a_dispatcher_that_waits_its_turn_claims_nothing_after_a_stop(database, provider, make_token, token_row):
    idle, rescuing, rescued = anyio.Event(), anyio.Event(), anyio.Event()

    class Rescuing(Store):
        async def abandoned(self, *_arguments, **_named):
            return [Abandoned(UUID(int=1), 1, None, "own")] if idle.is_set() else [], None

        async def rescue(self, *_arguments, **_named):
            rescuing.set()
            await rescued.wait()
            return []

    async with running(database, provider, timings=Timings(rescue_every=0.05), store=Rescuing) as (worker, log):
        idle.set()
        with anyio.fail_after(5):
            await rescuing.wait()
        token_id = await make_token()
        await anyio.wait_all_tasks_blocked()
        worker.stop()
        await anyio.wait_all_tasks_blocked()
        rescued.set()
        await log.wait("worker.stopped")

    assert (await token_row(token_id))["generation_epoch"] == 0


async def test_no_token_is_taken_for_another_that_is_refused(database, provider, connection, make_token, connect):
    innocent, bad = await make_token(), await make_token()
    await refuse(connection, f"NEW.token_id = {bad} AND NEW.status = 'generating'")
    host = await connect()
    async with host.transaction():
        await host.execute("SELECT FROM tokens_s0 WHERE token_id = $1 FOR UPDATE", innocent)
        async with running(database, provider, poll_interval_seconds=0.1) as (_, log):
            told = await log.wait("worker.error", role="claimer")

    assert told["token_id"] == bad


async def test_a_mint_asks_for_no_due_time(database, provider, make_token):
    asked = []

    class Asked(Store):
        async def next_due(self):
            asked.append(1)
            return await super().next_due()

    async with running(database, provider, store=Asked) as (_, log):
        told = []
        for number in range(1, 21):  # a worker that has just gone on watch looks, and asks, a few times more
            await make_token()
            await log.wait("token.generation.succeeded", times=number)
            told.append(len(asked))
            if told[-4:] == [told[-1]] * 4:
                return

    raise AssertionError(told)


async def test_what_the_rate_limit_held_back_is_claimed_when_it_may_be(database, provider, connection, make_token):
    async with running(database, provider, rate_limit_per_minute=600, worker_batch_size=200) as (_, log):
        await make_token()
        await connection.execute(
            "INSERT INTO tokens_s0 (author_id) SELECT author_id FROM tokens_s0, generate_series(1, 101)"
        )  # two more than the burst
        with anyio.fail_after(5):
            await log.wait("token.generation.succeeded", times=102)


async def test_a_retry_is_claimed_when_it_is_due_though_a_mint_was_claimed_meanwhile(
    database, provider, connection, make_token
):
    entered, fail = anyio.Event(), anyio.Event()

    async def fails(_argument):
        entered.set()
        await fail.wait()
        raise TransientError("a hiccup")

    provider.script["create"] = [fails]
    # The bell is held up on watch, because its look for silent mints might claim the second token too soon.
    with switched_on("on_watch", anyio.sleep_forever):
        async with running(database, provider) as (_, log):
            await make_token()
            with anyio.fail_after(5):
                await entered.wait()
            await connection.execute("ALTER TABLE tokens_s0 DISABLE TRIGGER USER")
            await make_token()
            fail.set()
            with anyio.fail_after(10):
                await log.wait("token.generation.succeeded", times=2)


async def test_the_sweep_goes_on_after_it_has_found_something(database, provider, connection, make_token):
    await connection.execute("ALTER TABLE tokens_s0 DISABLE TRIGGER USER")
    async with running(database, provider, poll_interval_seconds=0.1) as (_, log):
        for number in (1, 2, 3):
            await make_token()
            with anyio.fail_after(5):
                await log.wait("token.generation.succeeded", times=number)
