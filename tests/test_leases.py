from dataclasses import replace
from itertools import chain
from types import SimpleNamespace
from uuid import UUID

import anyio
import pytest
from doubles import DirectedProvider, refuse, running

from reactor.database.connections import ConnectionLostError, RolledBackError, RowRefusedError
from reactor.database.store import Abandoned, Rescued, Store
from reactor.engine.timings import TIMINGS, Timings
from reactor.engine.wake.bell import Bell
from reactor.errors import PermanentError, TransientError

pytestmark = pytest.mark.anyio


@pytest.fixture
def provider():
    return DirectedProvider()


async def hold(_argument):
    await anyio.sleep_forever()


class Signal:
    """Wraps a method of the store; `returned` is set once a call has returned."""

    def __init__(self, monkeypatch, name):
        self._original = getattr(Store, name)
        self.returned = anyio.Event()
        signal = self

        async def wrapped(store, *arguments, **named):
            result = await signal._original(store, *arguments, **named)
            signal.returned.set()
            return result

        monkeypatch.setattr(Store, name, wrapped)


@pytest.mark.parametrize(("lease", "expected"), [(60, 3), (9, 3), (6, 2), (1, pytest.approx(0.333, abs=0.01))])
def test_a_lease_is_renewed_every_third_of_it_and_every_3_seconds_at_most(lease, expected):
    assert TIMINGS.renewal(lease) == expected


async def test_a_lease_is_renewed_while_the_attempt_runs(database, provider, connection, make_token, monkeypatch):
    provider.script["wait"] = [hold]
    renewed = Signal(monkeypatch, "renew")
    async with running(database, provider, lease_seconds=1) as (_, log):
        await make_token()
        await log.wait("token.generation.started")
        before = await connection.fetchval("SELECT generation_lease_ends_at FROM tokens_s0")
        with anyio.fail_after(5):
            await renewed.returned.wait()
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


async def test_a_renewal_that_crosses_a_settle_loses_nothing(database, provider, make_token, monkeypatch):
    settle = Store.settle
    settled = anyio.Event()
    renew = Signal(monkeypatch, "renew")

    async def answered_late(store, outcomes):
        answers = await settle(store, outcomes)
        settled.set()
        renew.returned = anyio.Event()
        await renew.returned.wait()
        return answers

    monkeypatch.setattr(Store, "settle", answered_late)
    async with running(database, provider, lease_seconds=1) as (_, log):
        await make_token()
        with anyio.fail_after(5):
            await settled.wait()
        await log.wait("token.generation.succeeded")

    assert not log.of("token.lease_lost")


async def test_a_token_claimed_again_before_its_settle_is_answered_is_told_once_each(
    database, provider, make_token, monkeypatch
):
    settle = Store.settle
    provider.script["create"] = [TransientError("boom", retry_after=0.0)]
    async with running(database, provider) as (_, log):

        async def answered_late(store, outcomes):
            answers = await settle(store, outcomes)
            if not log.of("token.generation.retry"):
                await log.wait("token.generation.started", times=2)
            return answers

        monkeypatch.setattr(Store, "settle", answered_late)
        await make_token()
        await log.wait("token.generation.succeeded")

    assert len(log.of("token.generation.retry")) == 1
    assert not log.of("token.lease_lost")


@pytest.fixture
def claimed_twice(monkeypatch):
    """Return each claim twice, under two epochs: the first one has lost its token before its attempt begins."""
    claim = Store.claim

    async def told_twice(store, *arguments):
        batch = await claim(store, *arguments)
        twice = ((replace(one, epoch=one.epoch - 1, prediction_id="p0"), one) for one in batch.claims)
        return replace(batch, claims=tuple(chain.from_iterable(twice)))

    monkeypatch.setattr(Store, "claim", told_twice)


@pytest.mark.usefixtures("claimed_twice")
async def test_a_token_that_is_lost_before_its_attempt_begins_is_not_worked_on(
    database, provider, make_token, token_row
):
    provider.script["wait"] = [hold]
    async with running(database, provider, worker_batch_size=2) as (_, log):
        token_id = await make_token()
        await log.wait("token.lease_lost", token_id=token_id)
        await log.wait("token.generation.succeeded", token_id=token_id)

    assert len(provider.asked("create")) == 1
    assert (await token_row(token_id))["status"] == "uploading"


@pytest.mark.usefixtures("claimed_twice")
async def test_a_lost_token_whose_outcome_nobody_answers_for_is_told_as_lost(
    database, provider, make_token, monkeypatch
):
    settle, answering = Store.settle, anyio.Event()

    async def answered_late(store, outcomes):
        await answering.wait()
        return await settle(store, outcomes)

    async def refused(_bought):
        raise PermanentError("boom")

    monkeypatch.setattr(Store, "settle", answered_late)
    provider.script["wait"] = [refused, refused]
    async with running(database, provider, timings=Timings(answer_within=0.05), worker_batch_size=2) as (_, log):
        token_id = await make_token()
        await log.wait("token.lease_lost", token_id=token_id)
        answering.set()
        await log.wait("token.generation.failed", token_id=token_id)


async def test_nothing_is_bought_once_the_lease_may_be_over(database, provider, make_token, monkeypatch):
    monkeypatch.setattr("reactor.engine.leases.Holding.lease_runs", lambda _holding: False)
    async with running(database, provider) as (_, log):
        await make_token()
        await log.wait("token.lease_lost")

    assert provider.asked("create") == []


async def test_a_claim_whose_answer_was_lost_is_taken_up_by_its_own_worker(
    database, provider, make_token, token_row, monkeypatch
):
    claim = Store.claim

    async def answer_lost(store, *arguments):
        batch = await claim(store, *arguments)
        if batch.claims:
            monkeypatch.setattr(Store, "claim", claim)
            raise ConnectionLostError("reset by peer")
        return batch

    monkeypatch.setattr(Store, "claim", answer_lost)
    async with running(database, provider, timings=Timings(rescue_every=0.1)) as (_, log):
        token_id = await make_token()
        await log.wait("token.generation.succeeded")

    assert (await token_row(token_id))["generation_rescues"] == 0
    assert len(provider.asked("create")) == 1
    assert not log.of("worker.recovery")


async def test_a_token_left_by_another_program_is_taken_over_once_a_lease_has_passed(
    database, provider, make_token, monkeypatch
):
    token_id = await make_token(status="generating")
    async with running(database, provider, timings=Timings(rescue_every=0.1), lease_seconds=1) as (_, log):
        with anyio.move_on_after(0.5):
            await log.wait("token.generation.rescued")
        assert not log.of("token.generation.rescued")
        await log.wait("worker.recovery", count=1)
        await log.wait("token.generation.succeeded", token_id=token_id)


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


async def test_a_rescue_and_a_claim_never_hold_more_than_there_are_slots(
    database, provider, connection, make_token, monkeypatch
):
    async def all_slots(_store, tokens, _worker, **_):
        return [SimpleNamespace(id=UUID(int=number)) for number in range(tokens)], None

    async def rescues(store, abandoned, worker, **_):
        return [Rescued(claim, "dead", None) for claim in (await store.claim(len(abandoned), worker)).claims]

    provider.script["wait"] = [hold] * 20
    monkeypatch.setattr(Store, "abandoned", all_slots)
    monkeypatch.setattr(Store, "rescue", rescues)
    for _ in range(20):
        await make_token()
    async with running(database, provider, idle=False, worker_batch_size=5) as (_, log):
        await log.wait("token.generation.started", times=5)
        await anyio.wait_all_tasks_blocked()
        held = await connection.fetchval("SELECT count(*) FROM tokens_s0 WHERE status = 'generating'")

    assert held == 5
    assert not log.of("worker.error")


async def test_the_slot_that_a_full_worker_frees_goes_to_an_abandoned_token_before_the_queue(
    database, provider, make_token, monkeypatch
):
    abandoned, full, ended = Store.abandoned, anyio.Event(), anyio.Event()

    async def once_full(*arguments, **named):
        await full.wait()
        found, last = await abandoned(*arguments, **named)
        return [token for token in found if token.epoch == 0], last  # without the token claimed meanwhile

    monkeypatch.setattr(Store, "abandoned", once_full)
    looked = Signal(monkeypatch, "abandoned")
    provider.script["wait"] = [lambda _: ended.wait()]
    async with running(database, provider, timings=Timings(rescue_every=3600.0), worker_batch_size=1) as (_, log):
        await make_token()
        await log.wait("token.generation.started")
        for _ in range(5):
            await make_token()
        left = await make_token(status="generating", generation_worker=log.of("worker.started")[0]["worker"])
        full.set()
        with anyio.fail_after(5):
            await looked.returned.wait()
        await anyio.wait_all_tasks_blocked()
        assert not log.of("token.generation.rescued")
        ended.set()
        second = await log.wait("token.generation.succeeded", times=2)

    assert second["token_id"] == left


async def test_a_look_for_abandoned_tokens_keeps_no_mint_waiting(database, provider, make_token, monkeypatch):
    looking = anyio.Event()

    async def hangs(*_arguments, **_named):
        looking.set()
        await anyio.sleep_forever()

    monkeypatch.setattr(Store, "abandoned", hangs)
    async with running(database, provider, timings=Timings(rescue_within=3600.0), idle=False) as (_, log):
        with anyio.fail_after(5):
            await looking.wait()
        await make_token()
        await log.wait("token.generation.succeeded")


async def test_a_full_worker_hushes_its_mints_while_its_rescuer_waits_for_a_slot(
    database, provider, make_token, monkeypatch
):
    claim, claiming, looked, hushed = Store.claim, anyio.Event(), anyio.Event(), anyio.Event()

    async def another(*_arguments, **_named):
        await claiming.wait()
        looked.set()
        return [Abandoned(UUID(int=1), 1, None, "own")], None

    async def once_it_looked(store, *arguments):
        claiming.set()
        await looked.wait()
        await anyio.wait_all_tasks_blocked()  # now only the rescuer can go on
        return await claim(store, *arguments)

    await make_token()
    provider.script["wait"] = [hold]
    monkeypatch.setattr(Store, "abandoned", another)
    monkeypatch.setattr(Store, "claim", once_it_looked)
    monkeypatch.setattr(Bell, "want", lambda _bell, wanted: hushed.set() if wanted == "quiet" else None)
    async with running(database, provider, timings=Timings(rescue_every=3600.0), idle=False, worker_batch_size=1):
        with anyio.fail_after(5):
            await hushed.wait()


@pytest.mark.parametrize("name", ["claim", "abandoned", "renew"])
async def test_a_row_that_the_database_refuses_does_not_end_the_worker(
    database, provider, connection, make_token, monkeypatch, name
):
    original, refused = getattr(Store, name), anyio.Event()

    async def refuses_once(store, *arguments, **named):
        monkeypatch.setattr(Store, name, original)
        refused.set()
        raise RowRefusedError("CheckViolationError: no", kind="CheckViolationError")

    monkeypatch.setattr(Store, name, refuses_once)
    async with running(database, provider, lease_seconds=1) as (_, log):
        held = anyio.Event()
        provider.script["wait"] = [lambda _: held.wait()]
        await make_token()
        with anyio.fail_after(10):
            await refused.wait()
        held.set()
        await log.wait("token.generation.succeeded")


async def test_a_locked_row_costs_no_other_its_lease(database, provider, connection, make_token, connect, monkeypatch):
    provider.script["wait"] = [hold] * 2
    async with running(database, provider, lease_seconds=3) as (_, log):
        locked, other = await make_token(), await make_token()
        await log.wait("token.generation.started", times=2)
        host = await connect()
        async with host.transaction():
            await host.execute("SELECT FROM tokens_s0 WHERE token_id = $1 FOR UPDATE", locked)
            before = await lease_of(connection, other)
            renewed = Signal(monkeypatch, "renew")
            with anyio.fail_after(5):
                await renewed.returned.wait()
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


async def test_behind_many_that_cannot_be_taken_over_others_wait_for_no_further_look(
    database, provider, connection, monkeypatch
):
    await connection.execute(
        """
        INSERT INTO authors (prompt_text) VALUES ('a fox');
        INSERT INTO tokens_s0 (author_id, status, generation_worker, generation_epoch, generation_lease_ends_at)
        SELECT id, 'generating', 7, 1, now() - interval '1 minute' FROM authors, generate_series(1, 60)
        """
    )
    await refuse(connection, "NEW.token_id > 3")
    async with running(database, provider, timings=Timings(rescue_every=3600.0), worker_batch_size=2) as (_, log):
        await log.wait("token.generation.succeeded", times=3)
        told = log.of("worker.error", role="rescuer")

    assert len(told) == 1


async def test_a_token_whose_end_cannot_be_written_is_left_to_its_lease(
    database, provider, connection, make_token, monkeypatch
):
    await refuse(connection, "NEW.status <> 'generating'")
    async with running(database, provider, timings=Timings(rescue_every=0.05)) as (_, log):
        await make_token()
        await log.wait("worker.error", role="attempt")
        looked = Signal(monkeypatch, "abandoned")
        for _ in range(3):
            looked.returned = anyio.Event()
            with anyio.fail_after(5):
                await looked.returned.wait()

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
        stores[0].availability._unsteady_at -= 3600.0
        await log.wait("token.generation.rescued", token_id=token_id)

    assert (before["generation_rescues"], before["generation_worker"]) == (0, 12345)


async def lease_of(connection, token_id):
    return await connection.fetchval("SELECT generation_lease_ends_at FROM tokens_s0 WHERE token_id = $1", token_id)


async def test_a_rescuer_that_may_not_look_says_so_once(database, provider, monkeypatch):
    asked, often = [], anyio.Event()

    async def denied(_store, *_arguments, **_named):
        asked.append(1)
        if len(asked) == 4:
            often.set()
        raise RolledBackError("InsufficientPrivilegeError: permission denied")

    monkeypatch.setattr(Store, "abandoned", denied)
    async with running(database, provider, timings=Timings(rescue_every=0.02)) as (_, log):
        with anyio.fail_after(10):
            await often.wait()

    assert len(log.of("worker.error", role="rescuer")) == 1


async def test_a_listener_that_never_connects_keeps_nobody_from_rescuing(
    database, provider, connection, make_token, monkeypatch
):
    monkeypatch.setattr("reactor.engine.wake.listener.reconnect_delay", lambda _: 0.05)
    await make_token(status="generating", generation_epoch=1, generation_worker=7, generation_seed=3)
    await connection.execute("UPDATE tokens_s0 SET generation_lease_ends_at = now() - interval '1 minute'")
    nowhere = "postgresql://nobody@127.0.0.1:1/nothing"
    async with running(
        database,
        provider,
        timings=Timings(steady_after=0.5, rescue_every=0.1),
        connected=False,
        idle=False,
        listen_database_url=nowhere,
    ) as (_, log):
        await log.wait("token.generation.rescued")

    assert len(log.of("listener.lost")) == 1
