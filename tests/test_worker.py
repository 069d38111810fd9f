import time

import anyio
import pytest
from doubles import SECRET, Barrier, DirectedProvider, Log, running, settings
from stores import failing_once

from reactor.database.connections import ConnectionLostError
from reactor.database.store import Store
from reactor.engine.timings import Timings
from reactor.engine.worker import Worker
from reactor.errors import (
    AccountError,
    AmbiguousCreateError,
    ContentPolicyError,
    PermanentError,
    RateLimitedError,
    TransientError,
    UnauthorizedError,
)
from reactor.providers import Prediction
from reactor.telemetry import Telemetry
from reactor.text.redaction import Redactor

pytestmark = pytest.mark.anyio


@pytest.fixture
def provider():
    return DirectedProvider()


def at(provider, what, gate):
    """Hold the next scripted call of `what` until the test opens the gate."""

    async def hold(_argument):
        await gate.wait()

    provider.script[what].append(hold)


async def test_a_mint_becomes_an_image(database, provider, make_token, token_row):
    async with running(database, provider) as (_, log):
        token_id = await make_token(prompt="a fox in the snow")
        told = await log.wait("token.generation.succeeded")

    row = await token_row(token_id)
    assert row["status"] == "uploading"
    assert row["image_url"] == "https://replicate.delivery/prediction1.webp" == told["image_url"]
    assert (row["generation_attempts"], row["generation_error"]) == (0, None)
    assert row["generation_prediction_id"] == "prediction1"
    assert row["generation_lease_ends_at"] is row["generation_worker"] is row["generation_due_at"] is None
    assert provider.asked("create") == [("a fox in the snow", row["generation_seed"])]
    assert provider.asked("find") == []
    assert log.of("token.generation.started", token_id=token_id, attempt=1, max_attempts=3)


@pytest.mark.parametrize("how", ["one statement", "copy", "on conflict", "set back", "waiting before"])
async def test_every_way_to_mint_wakes_the_worker(database, provider, connection, make_token, how):
    first = await make_token(status="failed", generation_error="x", generation_attempts=3)
    if how == "waiting before":
        await connection.execute("UPDATE tokens_s0 SET status = 'detected'")
    async with running(database, provider) as (_, log):
        author = await connection.fetchval("SELECT id FROM authors")
        match how:
            case "one statement":
                await connection.execute(
                    "INSERT INTO tokens_s0 (author_id) SELECT $1 FROM generate_series(1, 100)", author
                )
            case "copy":
                await connection.copy_records_to_table("tokens_s0", records=[(author,)] * 20, columns=["author_id"])
            case "on conflict":
                await connection.execute(
                    "INSERT INTO tokens_s0 (token_id, author_id) VALUES ($1, $2), (1000, $2)"
                    " ON CONFLICT (token_id) DO UPDATE SET status = 'detected'",
                    first,
                    author,
                )
            case "set back":
                await connection.execute("UPDATE tokens_s0 SET status = 'detected' WHERE token_id = $1", first)
        expected = {"one statement": 100, "copy": 20, "on conflict": 2, "set back": 1, "waiting before": 1}[how]
        await log.wait("token.generation.succeeded", times=expected)

    rows = await connection.fetch("SELECT * FROM tokens_s0 WHERE status = 'uploading'")
    assert len(rows) == expected
    assert all(row["generation_attempts"] == 0 and row["generation_error"] is None for row in rows)


async def test_without_the_trigger_the_sweep_finds_it(database, provider, connection, make_token):
    await connection.execute("ALTER TABLE tokens_s0 DISABLE TRIGGER USER")
    async with running(database, provider, poll_interval_seconds=0.3) as (_, log):
        await log.wait("tokens.claimed", times=2)  # at the start, and once on watch
        await make_token()
        with anyio.fail_after(3):
            await log.wait("token.generation.succeeded")


async def test_one_slow_image_delays_no_other(database, provider, make_token, connection):
    gate = anyio.Event()
    at(provider, "wait", gate)
    async with running(database, provider, worker_batch_size=2) as (_, log):
        slow = await make_token()
        await log.wait("token.generation.started", token_id=slow)
        for _ in range(10):
            await make_token()
        await log.wait("token.generation.succeeded", times=10)
        assert not log.of("token.generation.succeeded", token_id=slow)
        gate.set()
        await log.wait("token.generation.succeeded", token_id=slow)


async def test_three_transient_failures_are_retried_1_and_2_seconds_apart_then_fail(
    database, provider, make_token, token_row
):
    provider.script["create"] = [TransientError(f"boom {number}") for number in (1, 2, 3)]
    async with running(database, provider) as (_, log):
        token_id = await make_token()
        told = await log.wait("token.generation.exhausted")

    row = await token_row(token_id)
    assert (row["status"], row["generation_attempts"]) == ("failed", 3)
    assert row["generation_error"] == "boom 3 after 3 attempts" == told["error_message"]
    assert [event["retry_in_seconds"] for event in log.of("token.generation.retry")] == [
        pytest.approx(1, rel=0.11),
        pytest.approx(2, rel=0.11),
    ]
    seeds = [seed for _, seed in provider.asked("create")]
    assert len(set(seeds)) == 3
    assert provider.asked("find") == []


async def test_a_retry_starts_when_it_is_due_and_not_at_the_next_sweep(database, provider, make_token):
    provider.script["create"] = [TransientError("boom")]
    async with running(database, provider, poll_interval_seconds=3600) as (_, log):
        await make_token()
        await log.wait("token.generation.retry")
        await log.wait("token.generation.succeeded")


async def test_a_refused_api_token_fails_the_token_at_once_and_closes_the_gate(
    database, provider, make_token, token_row
):
    provider.script["create"] = [UnauthorizedError("Invalid API token (401)")]
    provider.script["check"] = [UnauthorizedError("Invalid API token")] * 5
    async with running(database, provider) as (_, log):
        token_id = await make_token()
        await log.wait("token.generation.failed", error_type="UnauthorizedError")
        waiting = await make_token()
        await log.wait("intake.paused")

    row = await token_row(token_id)
    assert (row["status"], row["generation_attempts"]) == ("failed", 0)
    assert "Invalid API token" in row["generation_error"]
    assert (await token_row(waiting))["status"] == "detected"


async def test_a_refused_api_token_fails_one_token_and_hands_the_others_back(
    database, provider, make_token, connection
):
    provider.script["create"] = [UnauthorizedError("Invalid API token (401)") for _ in range(5)]
    provider.script["check"] = [UnauthorizedError("Invalid API token")] * 5
    for _ in range(5):
        await make_token()
    async with running(database, provider) as (_, log):
        await log.wait("token.generation.failed")
        await log.wait("token.generation.released", times=4, error_type="UnauthorizedError")

    rows = await connection.fetch("SELECT status, count(*) FROM tokens_s0 GROUP BY status")
    assert dict(rows) == {"failed": 1, "detected": 4}


async def test_a_gate_closed_for_a_refused_api_token_opens_once_it_is_accepted(
    database, provider, connection, make_token
):
    await connection.execute(
        "UPDATE reactor.intake SET paused_until = 'infinity', reason = 'Invalid API token', opens_on = 'check'"
    )
    await make_token()
    async with running(database, provider) as (_, log):
        await log.wait("intake.resumed")
        await log.wait("token.generation.succeeded")


async def test_a_gate_that_an_operator_closed_stays_closed(database, provider, connection, make_token):
    await connection.execute("UPDATE reactor.intake SET paused_until = 'infinity', reason = 'maintenance'")
    await make_token()
    async with running(database, provider) as (_, log):
        await log.wait("tokens.claimed", times=2)  # at the start, and once on watch
        for claims in (3, 4):
            await make_token()
            await log.wait("tokens.claimed", times=claims, count=0)

    assert provider.calls == []


async def test_account_trouble_releases_the_token_and_closes_the_gate(database, provider, make_token, token_row):
    provider.script["create"] = [AccountError("Insufficient credit")]
    async with running(database, provider) as (_, log):
        token_id = await make_token()
        await log.wait("token.generation.released", error_type="AccountError")
        assert log.of("intake.paused", reason="Insufficient credit")

    row = await token_row(token_id)
    assert (row["status"], row["generation_attempts"]) == ("detected", 0)
    assert row["generation_error"] == "Insufficient credit"


async def test_a_rate_limit_waits_as_long_as_the_provider_says_and_counts_nothing(
    database, provider, make_token, token_row
):
    provider.script["create"] = [RateLimitedError("throttled", retry_after=0.5)]
    async with running(database, provider) as (_, log):
        token_id = await make_token()
        began = await log.wait("token.generation.retry", error_type="RateLimitedError")
        assert began["retry_in_seconds"] == 0.5
        await log.wait("token.generation.succeeded")

    assert (await token_row(token_id))["generation_attempts"] == 0


async def test_a_rate_limit_in_the_second_attempt_is_told_as_that_of_the_second(database, provider, make_token):
    provider.script["create"] = [TransientError("x", retry_after=0.0), RateLimitedError("y", retry_after=0.05)]
    async with running(database, provider) as (_, log):
        await make_token()
        first = await log.wait("token.generation.retry", error_type="TransientError")
        second = await log.wait("token.generation.retry", error_type="RateLimitedError")

    assert (first["attempt"], second["attempt"]) == (1, 2)


async def test_a_permanent_error_fails_at_once(database, provider, make_token, token_row):
    provider.script["create"] = [PermanentError("Input validation failed: width")]
    async with running(database, provider) as (_, log):
        token_id = await make_token()
        await log.wait("token.generation.failed", error_type="PermanentError")

    row = await token_row(token_id)
    assert (row["status"], row["generation_attempts"]) == ("failed", 0)
    assert row["generation_error"] == "Input validation failed: width"


@pytest.mark.parametrize(
    "columns", [{"prompt": ""}, {"prompt": " \n"}, {"prompt": "x" * 1001}, {"prompt": None}, {"author": False}]
)
async def test_a_bad_prompt_fails_without_a_call(database, provider, make_token, token_row, columns):
    async with running(database, provider) as (_, log):
        token_id = await make_token(**columns)
        await log.wait("token.generation.failed")

    row = await token_row(token_id)
    assert row["generation_error"].startswith("Prompt validation failed: ")
    assert (row["status"], row["generation_attempts"]) == ("failed", 0)
    assert provider.calls == []


async def test_a_missing_prompt_takes_the_default(database, provider, make_token):
    async with running(database, provider, default_prompt="a red door") as (_, log):
        await make_token(prompt=None)
        await log.wait("token.generation.succeeded")

    assert provider.asked("create")[0][0] == "a red door"


async def test_a_rejected_prompt_falls_back_once_and_is_told_nowhere(database, provider, make_token, token_row):
    provider.script["wait"] = [ContentPolicyError("NSFW content detected")]
    async with running(database, provider) as (_, log):
        token_id = await make_token(prompt="something unspeakable")
        await log.wait("token.generation.succeeded")

    row = await token_row(token_id)
    assert (row["status"], row["generation_attempts"], row["generation_censored"]) == ("uploading", 1, True)
    assert row["generation_error"] is None
    (first, seed), (second, other_seed) = provider.asked("create")
    assert (first, second) == ("something unspeakable", "a calm sea")
    assert seed != other_seed == row["generation_seed"]
    assert log.of("token.censored", token_id=token_id, prompt_characters=21)
    assert "unspeakable" not in log.text


async def test_a_stop_while_the_fallback_is_written_down_keeps_the_new_intent(
    database, provider, make_token, token_row
):
    committed, answered = anyio.Event(), anyio.Event()

    class AnsweredLate(Store):
        async def censor(self, *arguments):
            intent = await super().censor(*arguments)
            committed.set()
            await answered.wait()
            return intent

    provider.script["wait"] = [ContentPolicyError("NSFW")]
    async with running(database, provider, store=AnsweredLate) as (worker, log):
        token_id = await make_token()
        with anyio.fail_after(10):
            await committed.wait()
        worker.stop_now()
        await anyio.wait_all_tasks_blocked()
        answered.set()
        await log.wait("token.generation.released")

    row = await token_row(token_id)
    assert (row["generation_censored"], row["generation_attempts"], row["generation_prediction_id"]) == (True, 1, None)
    assert log.of("token.censored", token_id=token_id)


async def test_a_rejected_fallback_fails(database, provider, make_token, token_row):
    provider.script["wait"] = [ContentPolicyError("NSFW"), ContentPolicyError("NSFW again")]
    async with running(database, provider) as (_, log):
        token_id = await make_token()
        await log.wait("token.generation.failed", error_type="ContentPolicyError")

    row = await token_row(token_id)
    assert (row["status"], row["generation_attempts"], row["generation_error"]) == ("failed", 2, "NSFW again")


async def test_a_retry_of_a_censored_token_keeps_the_fallback(database, provider, make_token, token_row):
    provider.script["wait"] = [ContentPolicyError("NSFW"), TransientError("boom", retry_after=0.0)]
    async with running(database, provider) as (_, log):
        token_id = await make_token()
        await log.wait("token.generation.succeeded")

    assert [prompt for prompt, _ in provider.asked("create")][1:] == ["a calm sea", "a calm sea"]
    assert (await token_row(token_id))["generation_attempts"] == 2


async def test_a_token_set_back_by_hand_begins_from_nothing(database, provider, make_token, connection, token_row):
    token_id = await make_token(
        status="failed",
        generation_error="worn out",
        generation_attempts=3,
        generation_censored=True,
        generation_rescues=4,
        generation_seed=7,
        generation_prediction_id="old",
    )
    async with running(database, provider) as (_, log):
        await connection.execute("UPDATE tokens_s0 SET status = 'detected' WHERE token_id = $1", token_id)
        await log.wait("token.generation.succeeded")

    row = await token_row(token_id)
    assert (row["generation_attempts"], row["generation_censored"], row["generation_rescues"]) == (0, False, 0)
    assert row["generation_prediction_id"] == "prediction1"
    assert provider.asked("find") == []


async def test_an_ambiguous_create_that_bought_is_found_and_not_bought_again(database, provider, make_token, token_row):
    async def answer_lost(argument):
        provider.buy(*argument)
        return AmbiguousCreateError("Replicate answered 502 to create")

    provider.script["create"] = [answer_lost]
    async with running(database, provider) as (_, log):
        token_id = await make_token()
        await log.wait("token.generation.succeeded")

    assert len(provider.asked("create")) == 1
    assert (await token_row(token_id))["generation_attempts"] == 0
    assert log.of("token.create_ambiguous", token_id=token_id)


async def test_an_ambiguous_create_that_bought_nothing_is_believed_only_later(
    database, provider, make_token, token_row, monkeypatch
):
    sent_at = []

    async def unanswered(_argument):
        sent_at.append(time.monotonic())
        return AmbiguousCreateError("the answer never came")

    provider.script["create"] = [unanswered]
    async with running(database, provider, timings=Timings(sure_after=0.5, listing_every=0.1)) as (_, log):
        token_id = await make_token()
        await log.wait("token.create_ambiguous")
        retry = await log.wait("token.generation.retry", error_type="TransientError")
        assert time.monotonic() - sent_at[0] >= 0.5
        assert retry["retry_in_seconds"] == 0
        await log.wait("token.generation.succeeded")

    assert len(provider.asked("find")) >= 3
    assert (await token_row(token_id))["generation_attempts"] == 1


async def test_a_model_without_a_seed_is_asked_once_more_after_an_ambiguous_create_and_then_no_more(
    database, provider, make_token, token_row
):
    provider.seedable = False
    provider.script["create"] = [AmbiguousCreateError("the answer never came") for _ in range(3)]
    async with running(database, provider) as (_, log):
        token_id = await make_token()
        await log.wait("token.generation.retry", error_type="TransientError", retry_in_seconds=0)
        await log.wait("token.generation.failed", error_type="PermanentError")

    row = await token_row(token_id)
    assert len(provider.asked("create")) == 2
    assert (row["status"], row["generation_attempts"]) == ("failed", 1)
    assert "sent before" in row["generation_error"]
    assert provider.asked("find") == []


async def test_without_a_seed_a_create_that_was_refused_is_none_that_was_sent_blindly(
    database, provider, make_token, token_row
):
    provider.seedable = False
    provider.script["create"] = [
        TransientError("Replicate answered 503", purchase_over=False, retry_after=0.0),
        AmbiguousCreateError("no answer"),
    ]
    async with running(database, provider) as (_, log):
        token_id = await make_token()
        await log.wait("token.generation.succeeded", token_id=token_id)

    assert (await token_row(token_id))["generation_attempts"] == 2


async def test_a_create_that_failed_without_a_purchase_is_looked_for_once_before_the_next(
    database, provider, make_token
):
    provider.script["create"] = [TransientError("Replicate answered 503", purchase_over=False)]
    async with running(database, provider) as (_, log):
        await make_token()
        await log.wait("token.generation.succeeded")

    (_, first), (_, second) = provider.asked("create")
    assert first == second
    assert provider.asked("find") == [first]


async def test_a_listing_that_is_away_is_waited_for(database, provider, make_token, monkeypatch):
    provider.script["create"] = [TransientError("503", purchase_over=False)]
    provider.script["find"] = [TransientError("listing away")] * 3
    async with running(database, provider, timings=Timings(listing_every=0.05)) as (_, log):
        await make_token()
        await log.wait("token.generation.succeeded")

    assert [name for name, _ in provider.calls] == ["create", "find", "find", "find", "find", "create", "wait"]


async def test_stopping_releases_what_the_grace_did_not_finish_and_a_restart_resumes_it(
    database, provider, make_token, token_row
):
    at(provider, "wait", anyio.Event())
    async with running(database, provider, shutdown_grace_seconds=0.2) as (worker, log):
        token_id = await make_token()
        await log.wait("token.generation.started")
        worker.stop()
        await log.wait("worker.stopped")
        assert log.of("token.generation.released", token_id=token_id)

    row = await token_row(token_id)
    assert (row["status"], row["generation_attempts"], row["generation_prediction_id"]) == (
        "detected",
        0,
        "prediction1",
    )

    async with running(database, provider) as (_, log):
        await log.wait("token.generation.resumed", prediction_id="prediction1")
        await log.wait("token.generation.succeeded")
    assert len(provider.asked("create")) == 1


async def test_stopping_waits_for_what_finishes_within_the_grace(database, provider, make_token, token_row):
    gate = anyio.Event()
    at(provider, "wait", gate)
    async with running(database, provider) as (worker, log):
        token_id = await make_token()
        await log.wait("token.generation.started")
        worker.stop()
        await log.wait("worker.stopping", held=1, grace_seconds=20)
        gate.set()
        await log.wait("worker.stopped")

    assert (await token_row(token_id))["status"] == "uploading"


async def test_a_release_during_a_create_is_not_due_before_a_look_can_be_believed(
    database, provider, make_token, connection
):
    at(provider, "create", anyio.Event())
    async with running(database, provider) as (_, log):
        await make_token()
        await log.wait("token.create_sent")

    due_in = await connection.fetchval("SELECT extract(epoch FROM generation_due_at - now()) FROM tokens_s0")
    assert 5 < due_in < 10.1
    assert await connection.fetchval("SELECT generation_seed FROM tokens_s0") is not None


async def test_the_deadline_of_an_attempt_cancels_its_prediction(database, provider, make_token):
    at(provider, "wait", anyio.Event())
    async with running(database, provider, generation_timeout_seconds=1) as (_, log):
        await make_token()
        told = await log.wait("token.generation.retry")
        assert told["error_message"] == "Timed out after 1 s"
        await log.wait("token.generation.succeeded")

    assert provider.asked("cancel") == ["prediction1"]
    assert provider.asked("wait")[1:] == ["prediction1"]


async def test_a_deadline_that_finds_the_prompt_rejected_falls_back(database, provider, make_token, token_row):
    at(provider, "wait", anyio.Event())
    provider.script["cancel"] = [Prediction("prediction1", error=ContentPolicyError("NSFW"))]
    async with running(database, provider, generation_timeout_seconds=1) as (_, log):
        token_id = await make_token()
        await log.wait("token.generation.succeeded")

    assert (await token_row(token_id))["generation_censored"]


async def test_a_token_taken_over_while_it_is_generated_is_dropped(
    database, provider, make_token, connection, token_row
):
    gate = anyio.Event()
    at(provider, "wait", gate)
    async with running(database, provider) as (_, log):
        token_id = await make_token()
        await log.wait("token.generation.started")
        await connection.execute("UPDATE tokens_s0 SET generation_epoch = generation_epoch + 1")
        gate.set()
        await log.wait("token.lease_lost", token_id=token_id)

    assert (await token_row(token_id))["status"] == "generating"
    assert not log.of("token.generation.succeeded")


async def test_a_dead_workers_token_is_taken_over_and_its_prediction_resumed(
    database, provider, make_token, connection, token_row
):
    token_id = await make_token(
        status="generating",
        generation_epoch=4,
        generation_worker=12345,
        generation_seed=99,
        generation_prediction_id="bought-before",
    )
    await connection.execute(
        "UPDATE tokens_s0 SET generation_seeded_at = now(), generation_lease_ends_at = now() - interval '1 s'"
    )
    async with running(database, provider) as (_, log):
        await log.wait("token.generation.rescued", token_id=token_id)
        await log.wait("token.generation.succeeded")
        await log.wait("worker.recovery", count=1)

    row = await token_row(token_id)
    assert (row["status"], row["generation_rescues"], row["generation_epoch"]) == ("uploading", 1, 5)
    assert provider.asked("create") == []


async def test_a_rescue_whose_answer_was_lost_does_not_believe_a_single_look(
    database, provider, make_token, connection
):
    async def listed_late(seed):
        provider.bought[seed] = Prediction("bought-just-before")

    provider.script["find"] = [listed_late]
    await make_token(status="generating", generation_epoch=4, generation_worker=12345, generation_seed=99)
    await connection.execute(
        "UPDATE tokens_s0 SET generation_seeded_at = now(), generation_lease_ends_at = now() - interval '1 s'"
    )
    store = failing_once("rescue", ConnectionLostError("the answer to a rescue"), after=True)
    timings = Timings(sure_after=0.5, listing_every=0.05, rescue_every=0.05)
    async with running(database, provider, timings=timings, store=store) as (_, log):
        await log.wait("token.generation.succeeded", prediction_id="bought-just-before")

    assert provider.asked("create") == []


async def test_a_bug_in_the_adapter_fails_its_token_and_no_other(database, provider, make_token, token_row):
    provider.script["create"] = [ZeroDivisionError("cannot send 'something unspeakable'")]
    async with running(database, provider) as (_, log):
        broken = await make_token()
        await log.wait("token.generation.failed")
        await make_token()
        await log.wait("token.generation.succeeded")

    assert (await token_row(broken))["generation_error"] == "Internal error: ZeroDivisionError"
    (told,) = log.of("worker.error", token_id=broken, error_type="ZeroDivisionError")
    assert "doubles.py" in told["error_message"]
    assert "unspeakable" not in log.text


async def test_secrets_are_stored_nowhere(database, provider, make_token, token_row):
    provider.script["create"] = [PermanentError(f"bad header {SECRET}\x00\ud800")]
    async with running(database, provider) as (_, log):
        token_id = await make_token()
        await log.wait("token.generation.failed")

    error = (await token_row(token_id))["generation_error"]
    assert SECRET not in error
    assert error.startswith("bad header [redacted]")


async def test_drain_ends_once_nothing_is_left(database, provider, make_token, connection):
    for _ in range(25):
        await make_token()
    worker = Worker(settings(database), provider, Telemetry(Log()), Redactor())

    with anyio.fail_after(10):
        await worker.run(drain=True)

    assert await connection.fetchval("SELECT count(*) FROM tokens_s0 WHERE status = 'uploading'") == 25


async def test_drain_waits_for_what_another_worker_holds_and_nobody_rings_for(database, provider, make_token):
    gate, drained = Barrier(), anyio.Event()
    provider.script["wait"] = [gate]

    async def drain(log):
        await Worker(settings(database), provider, Telemetry(log), Redactor()).run(drain=True)
        drained.set()

    async with running(database, provider) as (_, log), anyio.create_task_group() as group:
        await make_token()
        await gate.entered()
        other = Log()
        group.start_soon(drain, other)
        await other.wait("watch.taken_elsewhere")
        assert not drained.is_set()
        gate.open()
        await log.wait("token.generation.succeeded")
        with anyio.fail_after(10):
            await drained.wait()
