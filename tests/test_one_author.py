"""Failures that one author's prompt causes do not hold up other authors' tokens."""

import pytest
from doubles import DirectedProvider, running

from reactor.errors import RepeatedPromptError, TransientError

pytestmark = pytest.mark.anyio

THRESHOLD = 3


def odd():
    return TransientError("Prediction failed: whatever nobody has seen", unexplained=True)


@pytest.mark.parametrize("prompt", ["a prompt that no model likes", None])
async def test_an_authors_prompt_that_fails_again_and_again_does_not_close_the_gate(database, make_token, prompt):
    provider = DirectedProvider()
    provider.script["wait"] = [odd() for _ in range(2 * THRESHOLD)]
    given = {"breaker_threshold": THRESHOLD, "max_attempts": 1, "default_prompt": "a fox", "worker_batch_size": 1}
    for _ in range(2 * THRESHOLD):
        await make_token(prompt=prompt)
    async with running(database, provider, **given) as (_, log):
        await log.wait("token.generation.exhausted", times=2 * THRESHOLD)

        assert log.of("intake.paused") == []


@pytest.mark.parametrize("at", ["create", "wait"])
async def test_failures_that_prompts_decide_close_no_gate_however_many_authors_there_are(database, make_token, at):
    provider = DirectedProvider()
    provider.script[at] = [RepeatedPromptError("Prediction failed: [prompt]") for _ in range(2 * THRESHOLD)]
    given = {"breaker_threshold": THRESHOLD, "max_attempts": 1, "worker_batch_size": 1}
    for place in range(2 * THRESHOLD):
        await make_token(prompt=f"a fox, number {place}")
    async with running(database, provider, **given) as (_, log):
        await log.wait("token.generation.exhausted", times=2 * THRESHOLD)

        assert log.of("intake.paused") == []


async def test_a_model_that_fails_whatever_the_prompt_is_closes_the_gate(database, make_token):
    provider = DirectedProvider()
    provider.script["wait"] = [odd() for _ in range(THRESHOLD)]
    for place in range(THRESHOLD):
        await make_token(prompt=f"a fox, number {place}")
    async with running(database, provider, breaker_threshold=THRESHOLD, worker_batch_size=1, idle=False) as (_, log):
        told = await log.wait("intake.paused")

    assert "whatever nobody has seen" in told["reason"]
