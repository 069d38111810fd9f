"""The gate under an outage, a rate limit and a lack of credit: what it lets through, and which attempts count."""

import os
import time

import anyio
import pytest
from doubles import NO_GATE, DirectedProvider, running
from roles import AS_WORKER

from reactor.engine.timings import Timings
from reactor.errors import AccountError, AmbiguousCreateError, PermanentError, RateLimitedError, TransientError
from reactor.migrations import revisions

pytestmark = pytest.mark.anyio


@pytest.fixture
def provider():
    return DirectedProvider()


@pytest.fixture
def gate(connection):
    """The gate's row: paused_until is seconds from now."""

    async def gate():
        return await connection.fetchrow(
            "SELECT extract(epoch FROM paused_until - clock_timestamp())::float8 AS paused_for, pause_seconds, reason"
            " FROM reactor.intake"
        )

    return gate


@pytest.fixture
def half_open(connection):
    """Make the gate half-open, with `seconds` between probes."""

    async def half_open(seconds):
        await connection.execute(
            "UPDATE reactor.intake SET paused_until = clock_timestamp(), pause_seconds = $1, reason = 'outage'", seconds
        )

    return half_open


FAULTS = {
    "transient": (TransientError("Replicate answered 503"), "TransientError"),
    "rate limit": (RateLimitedError("throttled", retry_after=2.0), "RateLimitedError"),
    "account": (AccountError("Insufficient credit"), "AccountError"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_failed_probe_doubles_the_pause_counts_nothing_and_lets_another_token_go_first(
    database, provider, make_token, token_row, connection, half_open, gate, fault
):
    error, kind = FAULTS[fault]
    provider.script["create"] = [error]
    await half_open(8.0)
    first = await make_token()
    await make_token()
    async with running(database, provider, idle=False) as (_, log):
        await log.wait("token.generation.released", token_id=first, error_type=kind)

    row, told = await token_row(first), await gate()
    assert (row["status"], row["generation_attempts"]) == ("detected", 0)
    assert told["pause_seconds"] == 16
    assert 14 < told["paused_for"] <= 16
    due_in = await connection.fetchval("SELECT extract(epoch FROM $1 - clock_timestamp())", row["generation_due_at"])
    assert float(due_in) > told["paused_for"]
    assert len(provider.asked("create")) == 1


async def test_no_pause_is_doubled_beyond_a_minute(database, provider, make_token, half_open, gate):
    provider.script["create"] = [TransientError("Replicate answered 503")]
    await half_open(45.0)
    await make_token()
    async with running(database, provider, idle=False) as (_, log):
        await log.wait("token.generation.released")

    told = await gate()
    assert told["pause_seconds"] == 60
    assert 58 < told["paused_for"] <= 60


async def test_an_accepted_probe_opens_the_gate_for_all(database, provider, make_token, half_open, gate):
    await half_open(60.0)
    for _ in range(5):
        await make_token()
    async with running(database, provider, idle=False) as (_, log):
        await log.wait("token.generation.succeeded", times=5)

    assert (await gate())["paused_for"] is None
    assert len(log.of("intake.resumed")) == 1


async def test_a_probe_whose_prediction_fails_later_has_opened_the_gate_and_is_counted(
    database, provider, make_token, token_row, half_open, gate
):
    provider.script["wait"] = [TransientError("E9828")]
    await half_open(60.0)
    token_id = await make_token()
    async with running(database, provider, idle=False) as (_, log):
        await log.wait("token.generation.retry", token_id=token_id)
        told = await gate()

    assert told["paused_for"] is None
    assert (await token_row(token_id))["generation_attempts"] == 1


@pytest.mark.parametrize("how", ["empty prompt", "refused for itself", "resumed"])
async def test_a_probe_that_tells_nothing_of_the_provider_lets_the_next_token_through_at_once(
    database, provider, make_token, connection, half_open, how
):
    await half_open(60.0)
    if how == "resumed":
        due = await connection.fetchval("SELECT now()")
        await make_token(generation_due_at=due, generation_seed=5, generation_prediction_id="bought-before")
        provider.script["wait"] = [lambda _: anyio.sleep_forever()]
    elif how == "refused for itself":
        provider.script["create"] = [PermanentError("Input validation failed")]
        await make_token()
    else:
        await make_token(prompt="")
    due = await connection.fetchval("SELECT now()")  # later than the first one's; a fresh token would go first
    second = await make_token(generation_due_at=due)
    async with running(database, provider, idle=False) as (_, log):
        with anyio.fail_after(5):
            await log.wait("token.generation.succeeded", token_id=second)


async def test_so_many_refused_creates_in_a_row_close_the_gate_for_the_fleet(
    database, provider, make_token, connection, gate
):
    provider.script["create"] = [TransientError("Replicate answered 503") for _ in range(10)]
    async with running(database, provider, breaker_threshold=3) as (_, log):
        await connection.execute("BEGIN")
        for _ in range(10):
            await make_token()
        await connection.execute("COMMIT")
        await log.wait("token.generation.retry", times=2)
        await log.wait("token.generation.released", times=8)
        told = await gate()

    attempts = await connection.fetch("SELECT generation_attempts, count(*) FROM tokens_s0 GROUP BY 1")
    assert dict(attempts) == {1: 2, 0: 8}
    assert 0 < told["paused_for"] <= 5
    assert told["reason"] == "Failures in a row: Replicate answered 503"
    assert len(log.of("intake.paused")) == 1
    assert len(provider.asked("create")) == 10


async def test_without_a_breaker_every_failure_counts(database, provider, make_token, connection, gate):
    provider.script["create"] = [TransientError("Replicate answered 503") for _ in range(10)]
    async with running(database, provider, breaker_threshold=0) as (_, log):
        for _ in range(10):
            await make_token()
        await log.wait("token.generation.retry", times=10)
        assert (await gate())["paused_for"] is None


async def test_a_create_that_fails_while_the_gate_is_shut_by_others_counts_nothing(
    database, provider, make_token, connection, token_row
):
    asked, shut = anyio.Event(), anyio.Event()

    async def refused(_argument):
        asked.set()
        await shut.wait()
        raise TransientError("Replicate answered 503")

    provider.script["create"] = [refused]
    async with running(database, provider) as (_, log):
        token_id = await make_token()
        await asked.wait()
        await connection.execute("UPDATE reactor.intake SET paused_until = now() + interval '9 s', pause_seconds = 9")
        shut.set()
        await log.wait("token.generation.released", token_id=token_id)

    assert (await token_row(token_id))["generation_attempts"] == 0


@pytest.mark.parametrize(
    "error", [TransientError("no route", answered=False), AmbiguousCreateError("", answered=False)]
)
async def test_a_worker_that_reaches_nobody_rests_alone_and_another_goes_on(
    database, provider, make_token, connection, gate, monkeypatch, error
):
    provider.script["create"] = [error] * 3
    async with running(
        database, provider, timings=Timings(sure_after=0.0), breaker_threshold=1, worker_batch_size=1
    ) as (_, log):
        token_id = await make_token()
        told = await log.wait("intake.paused", worker_only=True)
        await log.wait("token.generation.released", token_id=token_id)
        waiting = await make_token()
        shut = (await gate())["paused_for"]
        async with running(database, DirectedProvider(), timings=Timings(sure_after=0.0)) as (_, other):
            await other.wait("token.generation.succeeded", token_id=waiting)

    assert shut is None
    assert told["seconds"] == 5.0
    assert len(provider.asked("create")) == 1


async def test_a_worker_that_rested_tries_one_token_and_then_all(
    database, provider, make_token, connection, monkeypatch
):
    accepted = anyio.Event()

    async def accepts(_argument):
        await accepted.wait()

    provider.script["create"] = [TransientError("no route", answered=False), accepts]
    async with running(database, provider, timings=Timings(first_rest=0.3), breaker_threshold=1) as (_, log):
        await make_token()
        await log.wait("intake.paused", worker_only=True)
        for _ in range(4):
            await make_token()
        await log.wait("token.create_sent", times=2)
        with anyio.move_on_after(0.2):
            await log.wait("token.create_sent", times=3)
        tried = len(log.of("token.create_sent"))
        accepted.set()
        await log.wait("token.generation.succeeded", times=5)

    assert tried == 2
    assert len(log.of("intake.resumed", worker_only=True)) == 1
    assert await connection.fetchval("SELECT max(generation_attempts) FROM tokens_s0") == 0


async def test_an_outage_of_an_hour_burns_no_attempts(database, provider, make_token, connection):
    down = True

    async def refused(_argument):
        if down:
            raise TransientError("Replicate answered 503")

    provider.script["create"] = [refused] * 1000
    async with running(database, provider, breaker_threshold=3) as (_, log):
        await connection.execute("BEGIN")
        for _ in range(20):
            await make_token()
        await connection.execute("COMMIT")
        await log.wait("token.generation.released", times=8)
        passed = 0.0
        while passed < 3600:
            released = len(log.of("token.generation.released"))
            passed += await an_interval_passes(connection)
            await log.wait("token.generation.released", times=released + 1)
        probed, down = len(provider.asked("create")), False
        await an_interval_passes(connection)
        await log.wait("token.generation.succeeded", times=20)

    attempts = [row["generation_attempts"] for row in await connection.fetch("SELECT * FROM tokens_s0")]
    assert max(attempts) <= 1
    assert sum(attempts) <= 2  # the ones counted before the breaker opened
    assert 60 <= probed <= 20 + 80


async def an_interval_passes(connection):
    """Move all times so that the pause ends now; return by how many seconds."""
    seconds = await connection.fetchval(
        "SELECT greatest(0, extract(epoch FROM paused_until - clock_timestamp()))::float8 FROM reactor.intake"
    )
    await connection.execute(
        "UPDATE tokens_s0 SET generation_due_at = generation_due_at - make_interval(secs => $1)"
        " WHERE status = 'detected' AND generation_due_at IS NOT NULL",
        seconds,
    )
    await connection.execute("UPDATE reactor.intake SET paused_until = clock_timestamp()")
    await connection.execute("NOTIFY public_tokens_s0_wake")
    return seconds


async def test_an_account_that_takes_one_create_at_a_time_fails_no_token(database, provider, make_token, connection):
    interval, taken = 0.1, [0.0]

    async def limited(_argument):
        now = time.monotonic()
        if now < taken[0] + interval:
            raise RateLimitedError("throttled", retry_after=taken[0] + interval - now)
        taken[0] = now

    provider.script["create"] = [limited] * 1000
    async with running(database, provider, worker_batch_size=10) as (_, log):
        for _ in range(15):
            await make_token()
        await log.wait("token.generation.succeeded", times=15)

    assert not log.of("token.generation.failed")
    assert not log.of("token.generation.exhausted")
    assert await connection.fetchval("SELECT max(generation_attempts) FROM tokens_s0") == 0
    assert len(log.of("intake.paused")) <= 15


async def test_a_lower_limit_of_the_account_closes_the_gate_once_and_then_slows_the_fleet_down(
    database, provider, make_token, connection, ask
):
    limited = RateLimitedError("reduced to 1 a minute", retry_after=0.2, limit_per_minute=1.0)
    provider.script["create"] = [limited] * 4
    async with running(database, provider, rate_limit_per_minute=0) as (_, log):
        await connection.execute("BEGIN")
        for _ in range(4):
            await make_token()
        await connection.execute("COMMIT")
        await log.wait("token.generation.succeeded")
        told = await ask("gate_state")
        booked, until = await connection.fetchrow(
            "SELECT arrival_at > clock_timestamp(), extract(epoch FROM limited_until - clock_timestamp())"
            " FROM reactor.intake"
        )

    assert [(event["limit_per_minute"], event["reason"]) for event in log.of("intake.limited")] == [
        (1.0, "reduced to 1 a minute")
    ]
    assert (len(log.of("intake.paused")), len(log.of("intake.resumed"))) == (1, 1)
    assert (told[0]["paused"], told[0]["limit_per_minute"]) == (False, 1)
    assert (booked, 500 < until <= 600) == (True, True)
    assert len(log.of("token.generation.succeeded")) == 1
    assert await connection.fetchval("SELECT max(generation_attempts) FROM tokens_s0") == 0


async def test_a_rate_limit_that_names_no_lower_one_slows_nobody_down(database, provider, make_token, ask):
    provider.script["create"] = [RateLimitedError("throttled", retry_after=0.2)]
    async with running(database, provider) as (_, log):
        await make_token()
        await log.wait("token.generation.succeeded")

    assert (await ask("gate_state"))[0]["limit_per_minute"] is None
    assert not log.of("intake.limited")


async def test_a_probe_that_reaches_nobody_rests_its_worker_and_leaves_the_fleets_pause_alone(
    database, provider, make_token, half_open, gate
):
    provider.script["create"] = [TransientError("no route", answered=False)]
    await half_open(8.0)
    await make_token()
    async with running(database, provider, breaker_threshold=1, idle=False) as (_, log):
        await log.wait("intake.paused", worker_only=True)
        await log.wait("token.generation.released")
        told = await gate()

    assert told["pause_seconds"] == 8
    assert told["paused_for"] <= 0


async def test_an_accepted_try_ends_the_rest_at_once(database, provider, make_token, monkeypatch):
    accepted = anyio.Event()

    async def accepts(_argument):
        await accepted.wait()

    provider.script["create"] = [TransientError("no route", answered=False), accepts]
    async with running(database, provider, timings=Timings(first_rest=3.0), breaker_threshold=1) as (_, log):
        await make_token()
        await log.wait("intake.paused", worker_only=True)
        await make_token()
        await log.wait("token.create_sent", times=2)
        await anyio.wait_all_tasks_blocked()
        accepted.set()
        await log.wait("intake.resumed", worker_only=True)
        with anyio.fail_after(2):  # the token is due after one second; another rest would take three
            await log.wait("token.create_sent", times=3)


async def test_any_answer_shows_that_the_worker_reaches_the_provider(
    database, provider, make_token, connection, monkeypatch
):
    provider.script["create"] = [
        TransientError("no route", answered=False),
        RateLimitedError("throttled", retry_after=0.2),
    ]
    async with running(database, provider, timings=Timings(first_rest=0.2), breaker_threshold=1) as (_, log):
        await make_token()
        await log.wait("token.generation.retry", error_type="RateLimitedError")
        await log.wait("intake.resumed", worker_only=True)


@pytest.mark.skipif(AS_WORKER in os.environ, reason="a worker's role may not insert the row: the next test")
async def test_a_gate_row_that_is_gone_is_made_anew(database, provider, make_token, connection, monkeypatch):
    async with running(database, provider, timings=Timings(check_every=0.05), poll_interval_seconds=0.1) as (_, log):
        await connection.execute("DELETE FROM reactor.intake")
        await make_token()
        await log.wait("token.generation.succeeded")

    assert log.of("worker.error") == []


async def test_a_gate_row_that_this_role_may_not_make_anew_is_told_and_ends_no_worker(
    database, provider, make_token, connection, monkeypatch
):
    async with running(database, provider, timings=Timings(check_every=0.05)) as (_, log):
        await connection.execute(NO_GATE)
        told = await log.wait("worker.error", role="intake")
        await connection.execute("DROP TRIGGER refuse ON reactor.intake")
        await revisions.upgrade(database)
        await make_token()
        await log.wait("token.generation.succeeded")

    assert "reactor migrate" in told["error_message"]
    assert len(log.of("worker.error", role="intake")) == 1


async def test_an_arrival_far_ahead_stops_nobody(database, provider, make_token, connection):
    await connection.execute("UPDATE reactor.intake SET arrival_at = now() + interval '1 hour'")
    async with running(database, provider) as (_, log):
        await make_token()
        with anyio.fail_after(5):
            await log.wait("token.generation.succeeded")
