"""A model that accepts everything and fails everything: only an image opens the gate, and no failure counts."""

import anyio
import pytest
from doubles import Barrier, DirectedProvider, running
from test_gate import an_interval_passes

from reactor.errors import ContentPolicyError, TransientError

pytestmark = pytest.mark.anyio

DOWN = "Prediction failed: Director: unexpected error handling prediction (E8765)"


@pytest.fixture
def provider():
    return DirectedProvider()


@pytest.fixture
def opens_on(ask):
    """What opens the gate; None if it is open."""

    async def opens_on():
        return (await ask("gate_state"))[0]["opens_on"]

    return opens_on


@pytest.fixture
def half_open(connection):
    """Make the gate half-open: only an image opens it, and probes are a minute apart."""

    async def half_open():
        await connection.execute(
            "UPDATE reactor.intake SET paused_until = now(), pause_seconds = 60, opens_on = 'image', reason = 'E8765'"
        )

    return half_open


@pytest.fixture
def mint(connection, make_token):
    """Make `count` tokens in one transaction, so that one claim takes them."""

    async def mint(count):
        async with connection.transaction():
            return [await make_token() for _ in range(count)]

    return mint


async def test_so_many_predictions_that_fail_in_a_row_close_it_and_no_more_of_them_count(
    database, provider, connection, mint, opens_on
):
    provider.script["wait"] = [TransientError(DOWN) for _ in range(10)]
    async with running(database, provider, breaker_threshold=3) as (_, log):
        await mint(10)
        await log.wait("token.generation.retry", times=2)
        await log.wait("token.generation.released", times=8)
        told = await opens_on()

    attempts = await connection.fetch("SELECT generation_attempts, count(*) FROM tokens_s0 GROUP BY 1")
    assert dict(attempts) == {1: 2, 0: 8}
    assert told == "image"
    assert [event["reason"] for event in log.of("intake.paused")] == [f"Generations fail in a row: {DOWN}"]


async def test_an_accepted_create_does_not_open_it_and_an_image_does(
    database, provider, make_token, half_open, opens_on
):
    generating = Barrier()
    provider.script["wait"] = [generating]
    await half_open()
    await make_token()
    async with running(database, provider, idle=False) as (_, log):
        await generating.entered()
        while_it_runs = await opens_on()
        generating.open()
        await log.wait("token.generation.succeeded")
        await log.wait("intake.resumed")

    assert (while_it_runs, await opens_on()) == ("image", None)


async def test_an_image_that_was_bought_before_opens_it_too(database, provider, make_token, ask, opens_on):
    generating = Barrier()
    provider.script["wait"] = [generating, TransientError(DOWN)]
    async with running(database, provider, breaker_threshold=1) as (_, log):
        await make_token()
        await generating.entered()
        await make_token()
        await log.wait("intake.paused")
        generating.open()
        await log.wait("intake.resumed")

    assert await opens_on() is None


async def test_what_another_worker_bought_and_lost_meanwhile_counts_nothing(
    database, provider, make_token, token_row, ask
):
    generating = Barrier()

    async def fails(argument):
        await generating(argument)
        raise TransientError(DOWN)

    provider.script["wait"] = [fails]
    async with running(database, provider, breaker_threshold=5) as (_, log):
        token_id = await make_token()
        await generating.entered()
        await ask("pause_gate", 30.0, "another worker's", False, "image")
        generating.open()
        await log.wait("token.generation.released", token_id=token_id)

    assert (await token_row(token_id))["generation_attempts"] == 0


@pytest.mark.parametrize("statement", [("pause", "by hand", None), ("pause_gate", 30.0, "429", False, "create")])
async def test_what_fails_after_its_purchase_counts_while_the_gate_is_shut_for_anything_else(
    database, provider, make_token, token_row, ask, statement
):
    generating = Barrier()

    async def fails(argument):
        await generating(argument)
        raise TransientError(DOWN)

    provider.script["wait"] = [fails]
    async with running(database, provider, breaker_threshold=5) as (_, log):
        token_id = await make_token()
        await generating.entered()
        await ask(*statement)
        generating.open()
        await log.wait("token.generation.retry", token_id=token_id)

    assert (await token_row(token_id))["generation_attempts"] == 1


async def test_a_probe_that_fails_doubles_the_pause_counts_nothing_and_lets_another_token_go_first(
    database, provider, make_token, token_row, connection, half_open
):
    provider.script["wait"] = [TransientError(DOWN)]
    await half_open()
    await connection.execute("UPDATE reactor.intake SET pause_seconds = 8")
    token_id = await make_token()
    async with running(database, provider, idle=False) as (_, log):
        await log.wait("token.generation.released", token_id=token_id)

    row = await token_row(token_id)
    pause, first = await connection.fetchrow(
        "SELECT pause_seconds, $1 > paused_until FROM reactor.intake", row["generation_due_at"]
    )
    assert (row["status"], row["generation_attempts"], pause, first) == ("detected", 0, 16, True)


async def test_a_probe_that_is_rejected_lets_another_go_and_does_not_open_it(
    database, provider, make_token, connection, half_open, opens_on
):
    provider.script["create"] = [ContentPolicyError("not this one"), ContentPolicyError("nor this one")]
    provider.script["wait"] = [lambda _: anyio.sleep_forever()]
    await half_open()
    await make_token()
    await make_token()
    async with running(database, provider, idle=False) as (_, log):
        await log.wait("token.generation.failed")
        await log.wait("token.generation.started", times=2)
        told = await opens_on()

    assert told == "image"


async def test_one_bad_prompt_does_not_keep_it_shut(database, provider, connection, make_token, mint, half_open):
    bad = await make_token(prompt="always fails")
    prompts = {}

    async def bought(argument):
        prompts[argument[1]] = argument[0]

    async def fails_for_itself(prediction_id):
        seed = next(seed for seed, prediction in provider.bought.items() if prediction.id == prediction_id)
        if prompts[seed] == "always fails":
            raise TransientError(DOWN)

    provider.script["create"] = [bought] * 100
    provider.script["wait"] = [fails_for_itself] * 100
    await half_open()
    async with running(database, provider, breaker_threshold=1, idle=False) as (_, log):
        await log.wait("token.generation.released", token_id=bad)
        others = await mint(5)
        await an_interval_passes(connection)
        await log.wait("token.generation.succeeded", times=len(others))
        await log.wait("intake.resumed")

    assert {event["token_id"] for event in log.of("token.generation.succeeded")} == set(others)


async def test_an_hour_without_the_model_burns_no_attempts_and_little_money(database, provider, connection, mint):
    down = True

    async def fails(_argument):
        if down:
            raise TransientError(DOWN)

    provider.script["wait"] = [fails] * 1000
    async with running(database, provider, breaker_threshold=3) as (_, log):
        await mint(20)
        await log.wait("token.generation.released", times=8)
        passed = 0.0
        while passed < 3600:
            released = len(log.of("token.generation.released"))
            passed += await an_interval_passes(connection)
            await log.wait("token.generation.released", times=released + 1)
        bought, down = len(provider.bought), False
        await an_interval_passes(connection)
        await log.wait("token.generation.succeeded", times=20)

    attempts = [row["generation_attempts"] for row in await connection.fetch("SELECT * FROM tokens_s0")]
    assert sum(attempts) <= 2  # the ones counted before the breaker opened
    assert bought <= 20 + 80
