"""A model without the seed input is reported at the start, and closes the gate instead of failing the queue."""

import httpx
import pytest
from doubles import SECRET, running
from wire import Wire, http

from reactor.errors import AccountError, PermanentError
from reactor.providers.replicate import ReplicateProvider
from reactor.providers.seeds import is_seed_refusal, lacks_input, seed_advice
from reactor.providers.transport import Answer
from reactor.sandbox import Sandbox, Timing
from reactor.text.echoes import Echoes

pytestmark = pytest.mark.anyio

SEEDLESS = "somebody/a-seedless-model"
SEEDLESS_VERSION, VERSION = "5eed1e55" * 8, "a" * 64


def schema(*names):
    return {"openapi_schema": {"components": {"schemas": {"Input": {"properties": {name: {} for name in names}}}}}}


@pytest.mark.parametrize(
    ("described", "lacks"),
    [
        ({"latest_version": schema("prompt", "width")}, True),
        ({"latest_version": schema("prompt", "seed")}, False),
        (schema("prompt"), True),
        (schema("seed"), False),
        (schema(), False),
        ({"latest_version": None}, False),
        ({"latest_version": {"openapi_schema": {"components": []}}}, False),
        ({}, False),
    ],
)
def test_a_schema_lacks_the_seed_only_if_it_can_be_read(described, lacks):
    assert lacks_input(described, "seed") is lacks


def unfit(*fields, detail=None, status=422):
    named = [{"type": kind, "field": field, "description": said} for kind, field, said in fields]
    return Answer(status, httpx.Headers(), {"invalid_fields": named, "detail": detail} if named else {"detail": detail})


EXTRA, WIDTH = "additional_property_not_allowed", ("number_lte", "input.width", "Must be less than or equal to 1440")


@pytest.mark.parametrize(
    ("answer", "about_it"),
    [
        (unfit((EXTRA, "input", "Additional property seed is not allowed")), True),
        (unfit(WIDTH, (EXTRA, "input.seed", "not allowed")), True),
        (unfit(("number_lte", "input.seed", "Must be less than or equal to 65535")), True),
        (unfit(detail="- input: Additional property seed is not allowed\n"), True),
        (unfit(detail="- prompt is required\n- input.seed: Invalid type. Expected: string, given: integer\n"), True),
        (unfit(WIDTH), False),
        (unfit((EXTRA, "input", "Additional property seeds is not allowed")), False),
        (unfit(detail="- input.prompt: 'a seed, input.seed: one' is too long\n"), False),
        (unfit((EXTRA, "input", "Additional property seed is not allowed"), status=400), False),
        (unfit(detail=["seed"]), False),
        (Answer(422, httpx.Headers(), None), False),
        (Answer(422, httpx.Headers(), {"invalid_fields": ["seed", None, 7], "detail": "seed"}), False),
    ],
)
def test_a_422_is_about_the_seed_only_if_it_says_so(answer, about_it):
    assert is_seed_refusal(answer, "seed", Echoes("a calm sea at dawn")) is about_it
    assert is_seed_refusal(answer, "", Echoes()) is False


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("- input.seed", unfit(detail="- input.seed is too long")),
        ("a fox\n- input.seed: bad", unfit(detail="no: a fox\n- input.seed: bad")),
        ("input.seed: a fox", unfit(("too_long", "input.prompt", "input.seed: a fox is too long"))),
    ],
)
def test_a_prompt_that_looks_like_a_refused_seed_is_ignored(prompt, answer):
    assert is_seed_refusal(answer, "seed", Echoes("another"))
    assert not is_seed_refusal(answer, "seed", Echoes(prompt))


@pytest.fixture
async def provided():
    """A function that makes providers which speak to a sandbox."""
    sandbox, made = Sandbox(Timing.instant()), []
    async with sandbox.serve() as url:

        def provided(model, **given):
            made.append(ReplicateProvider(SECRET, base_url=url, model=model, **given))
            return made[-1]

        yield provided
        for provider in made:
            await provider.aclose()


@pytest.mark.parametrize("model", [SEEDLESS, f"{SEEDLESS}:{SEEDLESS_VERSION}"])
async def test_a_check_and_a_create_say_what_to_set(provided, model):
    provider = provided(model)

    for call in (provider.check(), provider.create("a fox", 1)):
        with pytest.raises(AccountError, match="REPLICATE_SEED_INPUT="):
            await call


@pytest.mark.parametrize(
    ("model", "given"),
    [
        (SEEDLESS, {"seed_input": ""}),
        ("stability-ai/sdxl", {}),
        ("black-forest-labs/flux-schnell", {}),  # the sandbox gives no schema for it
        (VERSION, {}),
        ("somebody/missing", {}),
    ],
)
async def test_a_check_passes_where_nothing_is_known_to_be_wrong(provided, model, given):
    await provided(model, **given).check()


async def test_a_model_that_cannot_be_looked_at_passes():
    account = {"type": "user", "username": "x", "name": "X"}
    for answer in (http(b"<html>", 502), http(b"not json"), http({"detail": "no"}, 403)):
        wire = Wire(http(account), answer)
        async with wire.serve() as url:
            provider = ReplicateProvider(SECRET, base_url=url)
            await provider.check()
            await provider.aclose()
        assert len(wire.requests) == 2


async def test_another_422_is_still_the_tokens_own(provided):
    with pytest.raises(PermanentError):
        await provided("black-forest-labs/flux-schnell", model_input={"num_outputs": 9}).create("a fox", 1)


async def test_the_queue_waits_and_the_log_and_the_gate_say_why(database, provided, make_token, connection, ask):
    async with running(database, provided(SEEDLESS), idle=False) as (_, log):
        told = await log.wait("worker.error", role="provider")
        for _ in range(3):
            await make_token()
        await log.wait("token.generation.released")
        ((paused, reason, *_),) = await ask("gate_state")

    statuses = await connection.fetch("SELECT status, generation_attempts FROM tokens_s0")
    assert {tuple(row) for row in statuses} == {("detected", 0)}
    assert (told["error_type"], told["error_message"]) == ("AccountError", seed_advice("seed"))
    assert (paused, reason) == (True, seed_advice("seed"))
