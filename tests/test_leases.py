import time
from dataclasses import replace
from itertools import chain
from types import SimpleNamespace
from uuid import UUID

import anyio
import pytest
from doubles import DirectedProvider, refuse, running, until
from stores import failing_once

from reactor.database.availability import Availability
from reactor.database.connections import ConnectionLostError, RolledBackError, RowRefusedError
from reactor.database.rows import Abandoned, Rescued
from reactor.database.store import Store
from reactor.engine.timings import TIMINGS, Timings
from reactor.errors import PermanentError, TransientError

pytestmark = pytest.mark.anyio

# Whether somebody holds the lock that makes mints silent.
HUSHED = """
    SELECT EXISTS (
        SELECT FROM pg_locks
        WHERE locktype = 'advisory' AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND (classid::bigint << 32) | objid::bigint = hashtextextended('public_tokens_s0_wake', 1)
    )
"""


@pytest.fixture
def provider():
    return DirectedProvider()


async def hold(_argument):
    await anyio.sleep_forever()


class Signal:
    """Wraps a method of the store; `returned` is set once a call has returned."""

    def __init__(self, name):
        method = getattr(Store, name)
        self._returned = anyio.Event()

        async def signalled(store, *arguments, **named):
            returned = self._returned
            result = await method(store, *arguments, **named)
            returned.set()
            return result

        self.store = type("Signalling", (Store,), {name: signalled})

    async def next(self):
        """Wait until a call has returned that begins from now on."""
        self._returned = returned = anyio.Event()
        with anyio.fail_after(5):
            await returned.wait()


@pytest.mark.parametrize(("lease", "expected"), [(60, 3), (9, 3), (6, 2), (1, pytest.approx(0.333, abs=0.01))])
def test_a_lease_is_renewed_every_third_of_it_and_every_3_seconds_at_most(lease, expected):
    assert TIMINGS.renewal(lease) == expected


async def test_a_lease_is_renewed_while_the_attempt_runs(database, provider, connection, make_token):
    provider.script["wait"] = [hold]
    renewal = Signal("renew")
    async with running(database, provider, store=renewal.store, lease_seconds=1) as (_, log):
        await make_token()
        await log.wait("token.generation.started")
        before = await connection.fetchval("SELECT generation_lease_ends_at FROM tokens_s0")
        await renewal.next()
        after = await connection.fetchval("SELECT generation_lease_ends_at FROM tokens_s0")

    assert after > before


async def test_a_token_that_a_renewal_finds_lost_is_dropped_before_it_ends(
    database, provider, connection, make_token, token_row
):
    provider.script["wait"] = [hold]
    async with running(database, provider, lease_seconds=1) as (_, log):
        token_id = await make_token()
        await log.wait("token.generation.started")
        await connection.execute("UPDATE tokens_s0 SET generation_epoch = generation_epoch + 1, generation_worker = 1")
        await log.wait("token.lease_lost", token_id=token_id)

    assert (await token_row(token_id))["generation_worker"] == 1
    assert provider.asked("cancel") == []


async def test_a_renewal_that_crosses_a_settle_loses_nothing(database, provider, make_token):
    renewal, settled = Signal("renew"), anyio.Event()

    class AnsweredLate(renewal.store):
        async def settle(self, outcomes):
            answers = await super().settle(outcomes)
            settled.set()
            await renewal.next()
            return answers

    async with running(database, provider, store=AnsweredLate, lease_seconds=1) as (_, log):
        await make_token()
        with anyio.fail_after(5):
            await settled.wait()
        await log.wait("token.generation.succeeded")

    assert not log.of("token.lease_lost")


async def test_a_token_claimed_again_before_its_settle_is_answered_is_told_once_each(database, provider, make_token):
    again = anyio.Event()

    class AnsweredLate(Store):
        async def settle(self, outcomes):
            answers = await super().settle(outcomes)
            await again.wait()
            return answers

    provider.script["create"] = [TransientError("boom", retry_after=0.0)]
    async with running(database, provider, store=AnsweredLate) as (_, log):
        await make_token()
        await log.wait("token.generation.started", times=2)
        again.set()
        await log.wait("token.generation.succeeded")

    assert len(log.of("token.generation.retry")) == 1
    assert not log.of("token.lease_lost")


class ClaimingTwice(Store):
    """Claims each token under two epochs: the first is lost before its attempt begins."""

    async def claim(self, *arguments):
        batch = await super().claim(*arguments)
        twice = ((replace(one, epoch=one.epoch - 1, prediction_id="p0"), one) for one in batch.claims)
        return replace(batch, claims=tuple(chain.from_iterable(twice)))


async def test_a_token_that_is_lost_before_its_attempt_begins_is_not_worked_on(
    database, provider, make_token, token_row
):
    provider.script["wait"] = [hold]
    async with running(database, provider, store=ClaimingTwice, worker_batch_size=2) as (_, log):
        token_id = await make_token()
        await log.wait("token.lease_lost", token_id=token_id)
        await log.wait("token.generation.succeeded", token_id=token_id)

    assert len(provider.asked("create")) == 1
    assert (await token_row(token_id))["status"] == "uploading"


async def test_a_lost_token_whose_outcome_nobody_answers_for_is_told_as_lost(database, provider, make_token):
    answering = anyio.Event()

    class AnsweredLate(ClaimingTwice):
        async def settle(self, outcomes):
            await answering.wait()
            return await super().settle(outcomes)

    async def refused(_bought):
        raise PermanentError("boom")

    provider.script["wait"] = [refused, refused]
    timings = Timings(answer_within=0.05)
    async with running(database, provider, timings=timings, store=AnsweredLate, worker_batch_size=2) as (_, log):
        token_id = await make_token()
        await log.wait("token.lease_lost", token_id=token_id)
        answering.set()
        await log.wait("token.generation.failed", token_id=token_id)


async def test_nothing_is_bought_once_the_lease_may_be_over(database, provider, make_token):
    class AskedLongAgo(Store):
        async def claim(self, *arguments):
            batch = await super().claim(*arguments)
            claims = tuple(replace(claim, asked_at=claim.asked_at - 3600.0) for claim in batch.claims)
            return replace(batch, claims=claims)

    async with running(database, provider, store=AskedLongAgo) as (_, log):
        await make_token()
        await log.wait("token.lease_lost")

    assert provider.asked("create") == []


async def test_a_claim_whose_answer_was_lost_is_taken_up_by_its_own_worker(database, provider, make_token, token_row):
    lost = []

    class AnswerLost(Store):
        async def claim(self, *arguments):
            batch = await super().claim(*arguments)
            if batch.claims and not lost:
                lost.append(batch)
                raise ConnectionLostError("reset by peer")
            return batch

    async with running(database, provider, timings=Timings(rescue_every=0.1), store=AnswerLost) as (_, log):
        token_id = await make_token()
        await log.wait("token.generation.succeeded")

    assert (await token_row(token_id))["generation_rescues"] == 0
    assert len(provider.asked("create")) == 1
    assert not log.of("worker.recovery")


async def test_a_token_left_by_another_program_is_taken_over_once_a_lease_has_passed(
    database, provider, make_token, monkeypatch
):
    taken_at = []

    class Timed(Store):
        async def rescue(self, *arguments, **named):
            taken_at.append(time.monotonic())
            return await super().rescue(*arguments, **named)

    token_id = await make_token(status="generating")
    before, timings = time.monotonic(), Timings(rescue_every=0.1)
    async with running(database, provider, timings=timings, store=Timed, lease_seconds=1) as (_, log):
        await log.wait("worker.recovery", count=1)
        await log.wait("token.generation.succeeded", token_id=token_id)

    assert taken_at[0] - before >= 1.0


async def test_the_sixth_rescue_fails_the_token(database, provider, connection, make_token, token_row):
    token_id = await make_token(
        status="generating", generation_epoch=9, generation_worker=5, generation_rescues=5, generation_seed=3
    )
    await connection.execute("UPDATE tokens_s0 SET generation_lease_ends_at = now() - interval '1 s'")
    async with running(database, provider) as (_, log):
        await log.wait("token.generation.failed", token_id=token_id, error_message="worker died 5 times")

    row = await token_row(token_id)
    assert (row["status"], row["generation_error"]) == ("failed", "worker died 5 times")
    assert provider.calls == []


async def test_a_rescue_and_a_claim_never_hold_more_than_there_are_slots(database, provider, connection, make_token):
    class AsManyAbandoned(Store):
        async def abandoned(self, tokens, _worker, **_):
            return [SimpleNamespace(id=UUID(int=number)) for number in range(tokens)], None

        async def rescue(self, abandoned, worker, **_):
            return [Rescued(claim, "dead", None) for claim in (await self.claim(len(abandoned), worker)).claims]

    provider.script["wait"] = [hold] * 20
    for _ in range(20):
        await make_token()
    async with running(database, provider, store=AsManyAbandoned, idle=False, worker_batch_size=5) as (_, log):
        await log.wait("token.generation.started", times=5)
        await anyio.wait_all_tasks_blocked()
        held = await connection.fetchval("SELECT count(*) FROM tokens_s0 WHERE status = 'generating'")

    assert held == 5
    assert not log.of("worker.error")


async def test_the_slot_that_a_full_worker_frees_goes_to_an_abandoned_token_before_the_queue(
    database, provider, make_token
):
    full, looked, ended = anyio.Event(), anyio.Event(), anyio.Event()

    class LookingOnceFull(Store):
        async def abandoned(self, *arguments, **named):
            await full.wait()
            found, last = await super().abandoned(*arguments, **named)
            looked.set()
            return [token for token in found if token.epoch == 0], last  # without the one that was claimed meanwhile

    provider.script["wait"] = [lambda _: ended.wait()]
    timings = Timings(rescue_every=3600.0)
    async with running(database, provider, timings=timings, store=LookingOnceFull, worker_batch_size=1) as (_, log):
        await make_token()
        await log.wait("token.generation.started")
        for _ in range(5):
            await make_token()
        left = await make_token(status="generating", generation_worker=log.of("worker.started")[0]["worker"])
        full.set()
        with anyio.fail_after(5):
            await looked.wait()
        await anyio.wait_all_tasks_blocked()
        assert not log.of("token.generation.rescued")
        ended.set()
        second = await log.wait("token.generation.succeeded", times=2)

    assert second["token_id"] == left


async def test_a_look_for_abandoned_tokens_keeps_no_mint_waiting(database, provider, make_token):
    looking = anyio.Event()

    class Looking(Store):
        async def abandoned(self, *_arguments, **_named):
            looking.set()
            await anyio.sleep_forever()

    timings = Timings(rescue_within=3600.0)
    async with running(database, provider, timings=timings, store=Looking, idle=False) as (_, log):
        with anyio.fail_after(5):
            await looking.wait()
        await make_token()
        await log.wait("token.generation.succeeded")


async def test_a_full_worker_hushes_its_mints_while_its_rescuer_waits_for_a_slot(
    database, provider, connection, make_token
):
    claiming, looked = anyio.Event(), anyio.Event()

    class ClaimingOnceItLooked(Store):
        async def abandoned(self, *_arguments, **_named):
            await claiming.wait()
            looked.set()
            return [Abandoned(UUID(int=1), 1, None, "own")], None

        async def claim(self, *arguments):
            claiming.set()
            await looked.wait()
            await anyio.wait_all_tasks_blocked()  # the rescuer's turn is next
            return await super().claim(*arguments)

    await make_token()
    provider.script["wait"] = [hold]
    timings = Timings(rescue_every=3600.0)
    async with running(
        database, provider, timings=timings, store=ClaimingOnceItLooked, idle=False, worker_batch_size=1
    ):
        await until(lambda: connection.fetchval(HUSHED), 5)


@pytest.mark.parametrize("name", ["claim", "abandoned", "renew"])
async def test_a_row_that_the_database_refuses_does_not_end_the_worker(
    database, provider, connection, make_token, name
):
    store = failing_once(name, RowRefusedError("CheckViolationError: no", kind="CheckViolationError"))
    async with running(database, provider, store=store, lease_seconds=1) as (_, log):
        held = anyio.Event()
        provider.script["wait"] = [lambda _: held.wait()]
        await make_token()
        with anyio.fail_after(10):
            await store.failed.wait()
        held.set()
        await log.wait("token.generation.succeeded")


async def test_a_locked_row_costs_no_other_its_lease(database, provider, connection, make_token, connect):
    provider.script["wait"] = [hold] * 2
    renewal = Signal("renew")
    async with running(database, provider, store=renewal.store, lease_seconds=3) as (_, log):
        locked, other = await make_token(), await make_token()
        await log.wait("token.generation.started", times=2)
        host = await connect()
        async with host.transaction():
            await host.execute("SELECT FROM tokens_s0 WHERE token_id = $1 FOR UPDATE", locked)
            before = await lease_of(connection, other)
            await renewal.next()
            after = await lease_of(connection, other)

    assert after > before
    assert not log.of("token.lease_lost")


async def test_a_row_that_cannot_be_renewed_costs_no_other_its_lease(database, provider, connection, make_token):
    provider.script["wait"] = [hold] * 5
    async with running(database, provider, lease_seconds=3) as (_, log):
        tokens = [await make_token() for _ in range(5)]
        await log.wait("token.generation.started", times=5)
        await refuse(connection, "NEW.token_id = 3 AND NEW.generation_lease_ends_at > OLD.generation_lease_ends_at")
        before = [await lease_of(connection, token_id) for token_id in tokens]
        await log.wait("worker.error", role="leases", error_type="RowRefusedError")
        renewed = []
        with anyio.fail_after(20):
            while renewed != [True, True, False, True, True]:  # after the refusal each is renewed by its own statement
                after = [await lease_of(connection, token_id) for token_id in tokens]
                renewed = [new > old for old, new in zip(before, after, strict=True)]

    assert not log.of("token.lease_lost")


@pytest.mark.parametrize("state", ["P0001", "42501"])
async def test_an_abandoned_token_that_cannot_be_taken_over_keeps_no_other_from_it(
    database, provider, connection, make_token, state
):
    for number in range(3):
        await make_token(status="generating", generation_epoch=1, generation_worker=7, generation_seed=number)
    await connection.execute("UPDATE tokens_s0 SET generation_lease_ends_at = now() - interval '1 minute'")
    await refuse(connection, "NEW.token_id = 2", state=state)
    async with running(database, provider) as (_, log):
        await log.wait("token.generation.rescued", times=2)
        await log.wait("worker.error", role="rescuer")

    assert {told["token_id"] for told in log.of("token.generation.rescued")} == {1, 3}
    assert len(log.of("worker.error", role="rescuer")) == 1


class LookedOnce(Store):
    """Its second look for abandoned tokens never ends."""

    looks = 0

    async def abandoned(self, *arguments, **named):
        type(self).looks += 1
        if self.looks > 1:
            await anyio.sleep_forever()
        return await super().abandoned(*arguments, **named)


@pytest.mark.usefixtures("settled_server")
async def test_behind_many_that_cannot_be_taken_over_others_wait_for_no_further_look(database, provider, connection):
    await connection.execute(
        """
        INSERT INTO authors (prompt_text) VALUES ('a fox');
        INSERT INTO tokens_s0 (author_id, status, generation_worker, generation_epoch, generation_lease_ends_at)
        SELECT id, 'generating', 7, 1, now() - interval '1 minute' FROM authors, generate_series(1, 60)
        """
    )
    await refuse(connection, "NEW.token_id > 3")
    async with running(database, provider, store=LookedOnce, worker_batch_size=3) as (_, log):
        await log.wait("token.generation.succeeded", times=3)
        told = log.of("worker.error", role="rescuer")

    assert len(told) == 1


async def test_a_token_whose_end_cannot_be_written_is_left_to_its_lease(database, provider, connection, make_token):
    look = Signal("abandoned")
    await refuse(connection, "NEW.status <> 'generating'")
    async with running(database, provider, timings=Timings(rescue_every=0.05), store=look.store) as (_, log):
        await make_token()
        await log.wait("worker.error", role="attempt")
        for _ in range(3):
            await look.next()

    assert len(provider.asked("wait")) == 1
    assert not log.of("token.generation.rescued")


async def test_what_was_left_to_its_lease_is_tried_again_when_it_is_over(
    database, provider, connection, make_token, token_row, monkeypatch
):
    await refuse(connection, "NEW.status <> 'generating'")
    async with running(database, provider, timings=Timings(rescue_every=0.05), lease_seconds=1) as (_, log):
        token_id = await make_token()
        await log.wait("worker.error", role="attempt")
        await connection.execute("DROP TRIGGER refuse ON tokens_s0")
        await log.wait("token.generation.succeeded", token_id=token_id)

    assert len(provider.asked("create")) == 1
    assert (await token_row(token_id))["generation_rescues"] == 0


async def test_who_was_cut_off_rescues_nobody_before_others_had_time_to_renew(
    database, provider, connection, make_token, token_row
):
    seen, often, stores = [], anyio.Event(), []

    class Counting(Store):
        async def abandoned(self, *arguments, **named):
            found = await super().abandoned(*arguments, **named)
            stores.append(self)
            seen.extend(found[0])
            if len(seen) >= 5:
                often.set()
            return found

    timings = Timings(rescue_every=0.02, steady_after=3600.0)
    async with running(database, provider, timings=timings, store=Counting) as (_, log):
        await connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name LIKE 'reactor %' AND datname = current_database()"
        )
        overdue = await connection.fetchval("SELECT now() + interval '54 s'")
        held = {"status": "generating", "generation_worker": 12345, "generation_epoch": 1}
        token_id = await make_token(**held, generation_lease_ends_at=overdue)
        with anyio.fail_after(15):  # no worker looks in the ten seconds after a restart
            await often.wait()
        before = await token_row(token_id)
        stores[0].availability = Availability()  # steady, also if a terminated connection is noticed only now
        await log.wait("token.generation.rescued", token_id=token_id)

    assert (before["generation_rescues"], before["generation_worker"]) == (0, 12345)


async def lease_of(connection, token_id):
    return await connection.fetchval("SELECT generation_lease_ends_at FROM tokens_s0 WHERE token_id = $1", token_id)


async def test_a_rescuer_that_may_not_look_says_so_once(database, provider):
    asked, often = [], anyio.Event()

    class Denied(Store):
        async def abandoned(self, *_arguments, **_named):
            asked.append(1)
            if len(asked) == 4:
                often.set()
            raise RolledBackError("InsufficientPrivilegeError: permission denied")

    async with running(database, provider, timings=Timings(rescue_every=0.02), store=Denied) as (_, log):
        with anyio.fail_after(10):
            await often.wait()

    assert len(log.of("worker.error", role="rescuer")) == 1


async def test_a_listener_that_never_connects_keeps_nobody_from_rescuing(
    database, provider, connection, make_token, monkeypatch
):
    await make_token(status="generating", generation_epoch=1, generation_worker=7, generation_seed=3)
    await connection.execute("UPDATE tokens_s0 SET generation_lease_ends_at = now() - interval '1 minute'")
    nowhere = "postgresql://nobody@127.0.0.1:1/nothing"
    async with running(
        database,
        provider,
        timings=Timings(steady_after=0.5, rescue_every=0.1, longest_reconnect=0.05),
        connected=False,
        idle=False,
        listen_database_url=nowhere,
    ) as (_, log):
        await log.wait("token.generation.rescued")

    assert len(log.of("listener.lost")) == 1
