from dataclasses import replace

import anyio
import pytest
from doubles import DirectedProvider, refuse, running, until
from stores import failing_once

from reactor.database.connections import ConnectionLostError, RolledBackError
from reactor.database.store import Store
from reactor.engine.timings import Timings
from reactor.errors import ContentPolicyError

pytestmark = pytest.mark.anyio


@pytest.fixture
def provider():
    return DirectedProvider()


def hold(provider, times=1):
    """Hold `times` generations until the returned event is set."""
    gate = anyio.Event()

    async def held(_argument):
        await gate.wait()

    provider.script["wait"] += [held] * times
    return gate


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("name", ["settle", "record"])
async def test_a_write_whose_answer_is_lost_is_repeated_and_won(database, provider, make_token, token_row, name, after):
    store = failing_once(name, ConnectionLostError("reset by peer"), after=after)
    async with running(database, provider, store=store) as (_, log):
        token_id = await make_token()
        await log.wait("token.generation.succeeded")

    row = await token_row(token_id)
    assert (row["status"], row["generation_prediction_id"]) == ("uploading", "prediction1")
    assert not log.of("token.lease_lost")


async def test_a_write_that_was_rolled_back_is_repeated(database, provider, make_token, token_row):
    store = failing_once("settle", RolledBackError("deadlock detected"))
    async with running(database, provider, store=store) as (_, log):
        token_id = await make_token()
        await log.wait("token.generation.succeeded")

    assert (await token_row(token_id))["status"] == "uploading"
    assert len(log.of("worker.error", role="settler")) == 1


async def test_trouble_with_a_row_that_was_locked_before_is_told(database, provider, make_token):
    answers = [["locked"], RolledBackError("canceling statement due to statement timeout")]

    class Locked(Store):
        async def settle(self, outcomes):
            answer = answers.pop(0) if answers else await super().settle(outcomes)
            if isinstance(answer, Exception):
                raise answer
            return answer

    async with running(database, provider, store=Locked) as (_, log):
        await make_token()
        await log.wait("token.generation.succeeded")

    assert "statement timeout" in log.of("worker.error", role="settler")[0]["error_message"]


async def test_what_ends_during_a_flush_is_written_together_in_the_next(database, provider, make_token):
    batches, ended, all_asked = [], anyio.Event(), anyio.Event()

    async def last_asked(_argument):
        all_asked.set()

    provider.script["wait"] = [None] * 20 + [last_asked]

    class SlowAtFirst(Store):
        async def settle(self, outcomes):
            batches.append(len(outcomes))
            if len(batches) == 1:
                await ended.wait()
            return await super().settle(outcomes)

    async with running(database, provider, store=SlowAtFirst, worker_batch_size=30) as (_, log):
        await make_token()
        await log.wait("token.generation.started")
        for _ in range(20):
            await make_token()
        with anyio.fail_after(10):
            await all_asked.wait()
        await anyio.wait_all_tasks_blocked()
        ended.set()
        await log.wait("token.generation.succeeded", times=21)

    assert batches == [1, 20]


@pytest.mark.parametrize("how", ["check", "trigger"])
async def test_one_row_that_refuses_its_result_does_not_hold_up_the_others(
    database, provider, connection, make_token, token_row, how
):
    if how == "check":
        await connection.execute("ALTER TABLE tokens_s0 ADD CHECK (token_id <> 3 OR image_url IS NULL)")
    else:
        await refuse(connection, "NEW.token_id = 3 AND NEW.status = 'uploading'")
    gate = hold(provider, 5)
    async with running(database, provider) as (_, log):
        for _ in range(5):
            await make_token()
        await log.wait("token.generation.started", times=5)
        gate.set()
        await log.wait("token.generation.succeeded", times=4)
        await log.wait("token.generation.failed", token_id=3)

    kind = {"check": "CheckViolationError", "trigger": "RaiseError"}[how]
    row = await token_row(3)
    assert row["generation_error"] == f"The database refused the result ({kind})"
    assert row["generation_prediction_id"] is not None
    assert len(log.of("worker.error", role="settler", token_id=3)) == 1


async def test_a_write_is_abandoned_where_the_database_refuses_even_the_failure(
    database, provider, connection, make_token, token_row
):
    await connection.execute("ALTER TABLE tokens_s0 ADD CHECK (token_id <> 1 OR status IN ('detected', 'generating'))")
    async with running(database, provider, worker_batch_size=1) as (_, log):
        await make_token()
        await make_token()
        await log.wait("worker.error", role="settler", token_id=1)
        await log.wait("token.generation.succeeded", token_id=2)

    assert (await token_row(1))["status"] == "generating"


async def test_a_locked_row_holds_up_no_other_and_is_written_once_it_is_free(
    database, provider, make_token, connect, token_row
):
    gate = hold(provider, 2)
    async with running(database, provider) as (_, log):
        locked, other = await make_token(), await make_token()
        await log.wait("token.generation.started", times=2)
        host = await connect()
        async with host.transaction():
            await host.execute("SELECT FROM tokens_s0 WHERE token_id = $1 FOR UPDATE", locked)
            gate.set()
            with anyio.fail_after(1.5):  # a lock is waited for up to 2 s
                await log.wait("token.generation.succeeded", token_id=other)
            assert not log.of("token.generation.succeeded", token_id=locked)
        await log.wait("token.generation.succeeded", token_id=locked)

    assert not log.of("worker.error")


async def test_a_fallback_waits_for_a_locked_row_and_holds_up_no_other(
    database, provider, make_token, connect, token_row
):
    gate, locked = anyio.Event(), 1

    async def rejected(_argument):
        await gate.wait()
        raise ContentPolicyError("NSFW")

    provider.script["wait"] = [rejected]
    async with running(database, provider) as (_, log):
        await make_token()
        await log.wait("token.create_sent")
        host = await connect()
        async with host.transaction():
            await host.execute("SELECT FROM tokens_s0 WHERE token_id = $1 FOR UPDATE", locked)
            gate.set()
            await make_token()
            with anyio.fail_after(1.5):
                await log.wait("token.generation.succeeded", token_id=2)
        await log.wait("token.generation.succeeded", token_id=locked)

    assert (await token_row(locked))["generation_censored"]


async def test_the_rejected_prediction_is_not_recorded_again_once_the_fallback_is_in_use(
    database, provider, make_token, token_row
):
    asked, censored, recorded = anyio.Event(), anyio.Event(), []

    class ResetAtFirst(Store):
        async def record(self, bought):
            if not asked.is_set():
                asked.set()
                await censored.wait()
                raise ConnectionLostError("reset by peer")
            recorded.extend(each.prediction_id for each in bought)
            return await super().record(bought)

    async def rejected(_argument):
        await asked.wait()
        raise ContentPolicyError("NSFW")

    async def second(_argument):
        censored.set()

    provider.script["wait"] = [rejected]
    provider.script["create"] = [None, second]
    async with running(database, provider, store=ResetAtFirst) as (_, log):
        token_id = await make_token()
        await log.wait("token.generation.succeeded")

    assert "prediction1" not in recorded
    assert (await token_row(token_id))["generation_prediction_id"] == "prediction2"


async def test_a_settle_under_way_when_the_grace_ends_is_still_told(database, provider, make_token, token_row):
    asked, stopped = anyio.Event(), anyio.Event()

    class Slow(Store):
        async def settle(self, outcomes):
            asked.set()
            await stopped.wait()
            return await super().settle(outcomes)

    async with running(database, provider, store=Slow) as (worker, log):
        token_id = await make_token()
        with anyio.fail_after(5):
            await asked.wait()
        worker.stop_now()
        await anyio.wait_all_tasks_blocked()
        stopped.set()
        await log.wait("worker.stopped")

    assert (await token_row(token_id))["status"] == "uploading"
    assert log.of("token.generation.succeeded", token_id=token_id)


async def test_a_token_set_by_hand_while_it_is_generated_keeps_what_the_hand_wrote(
    database, provider, connection, make_token, token_row
):
    gate = hold(provider)
    async with running(database, provider) as (_, log):
        token_id = await make_token()
        await log.wait("token.generation.started")
        await connection.execute("UPDATE tokens_s0 SET status = 'ready', image_url = 'https://by.hand/1.png'")
        gate.set()
        await log.wait("token.lease_lost", token_id=token_id)

    row = await token_row(token_id)
    assert (row["status"], row["image_url"]) == ("ready", "https://by.hand/1.png")


async def test_a_token_deleted_while_it_is_generated_is_dropped(database, provider, connection, make_token):
    gate = hold(provider)
    async with running(database, provider) as (_, log):
        token_id = await make_token()
        await log.wait("token.generation.started")
        await connection.execute("DELETE FROM tokens_s0")
        gate.set()
        await log.wait("token.lease_lost", token_id=token_id)
        await make_token()
        await log.wait("token.generation.succeeded")


async def test_a_connection_that_a_hosts_trigger_lost_is_not_ours(
    database, provider, connection, make_token, token_row
):
    await refuse(connection, "NEW.token_id = 1 AND NEW.status = 'uploading'", state="08006")
    async with running(database, provider) as (_, log):
        await make_token()
        await make_token()
        await log.wait("token.generation.succeeded", token_id=2)
        await log.wait("token.generation.failed", token_id=1)


QUICK = Timings(longest_reconnect=0.0)  # no pause between two tries


@pytest.mark.parametrize("state", ["42501", "0A000", "55000"])
async def test_a_result_that_a_hosts_function_keeps_refusing_frees_its_slot_and_is_resumed_once_it_is_repaired(
    database, provider, connection, make_token, token_row, state
):
    await refuse(connection, "NEW.token_id <= 2 AND NEW.status = 'uploading'", state=state)
    async with running(database, provider, timings=QUICK, worker_batch_size=2) as (_, log):
        for _ in range(3):
            await make_token()
        await log.wait("token.generation.succeeded", token_id=3)
        told = await log.wait("worker.error", role="settler", token_id=1)

        async def handed_back():
            return await connection.fetchval("SELECT count(*) = 2 FROM tokens_s0 WHERE status = 'detected'")

        await until(handed_back)
        row = await token_row(1)
        await connection.execute(
            "DROP TRIGGER refuse ON tokens_s0; UPDATE tokens_s0 SET generation_due_at = now() WHERE status = 'detected'"
        )
        await log.wait("token.generation.succeeded", times=3)

    assert (row["status"], row["generation_attempts"]) == ("detected", 1)
    assert row["generation_prediction_id"] == told["prediction_id"] == (await token_row(1))["generation_prediction_id"]
    assert len(provider.asked("create")) == 3


async def test_a_result_that_is_refused_at_every_attempt_fails_and_names_what_was_bought(
    database, provider, connection, make_token, token_row
):
    await refuse(connection, "NEW.status = 'uploading'", state="42501")
    async with running(database, provider, timings=replace(QUICK, refused_result=0.0), max_attempts=2) as (_, log):
        await make_token()
        await log.wait("token.generation.exhausted")

    row = await token_row(1)
    assert (row["status"], row["generation_attempts"], row["generation_prediction_id"]) == ("failed", 2, "prediction1")
    assert len(provider.asked("create")) == 1


async def test_a_row_whose_every_end_a_hosts_function_refuses_is_left_to_its_lease(
    database, provider, connection, make_token, token_row
):
    await refuse(connection, "NEW.token_id = 1 AND NEW.status <> 'generating'", state="42501")
    async with running(database, provider, timings=QUICK, worker_batch_size=1) as (_, log):
        await make_token()
        await make_token()
        told = await log.wait("worker.error", role="attempt")
        await log.wait("token.generation.succeeded", token_id=2)

        async def recorded():
            return (await token_row(1))["generation_prediction_id"]

        await until(recorded)

    row = await token_row(1)
    assert (row["status"], row["generation_prediction_id"]) == ("generating", "prediction1")
    assert (told["token_id"], told["prediction_id"]) == (1, "prediction1")


@pytest.mark.parametrize("state", ["P0001", "42501"])
async def test_a_fallback_that_the_database_refuses_frees_its_slot(
    database, provider, connection, make_token, token_row, state
):
    provider.script["wait"] = [ContentPolicyError("NSFW")]
    await refuse(connection, "NEW.token_id = 1 AND NEW.generation_censored", state=state)
    async with running(database, provider, timings=QUICK, worker_batch_size=1) as (_, log):
        await make_token()
        await make_token()
        await log.wait("token.generation.succeeded", token_id=2)
        told = await log.wait("token.generation.failed", token_id=1)

    assert "refused the fallback prompt" in (await token_row(1))["generation_error"]
    assert told["prediction_id"] == "prediction1"
