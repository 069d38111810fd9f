"""Checks of a worker's settings, of its API token, and of the model. Nothing is bought."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from reactor.database.table import plain_query
from reactor.errors import AccountError, GenerationError, TransientError, UnauthorizedError
from reactor.operations.finding import Finding, UnknownError
from reactor.providers.bodies import UnreadableError
from reactor.providers.replicate import ReplicateProvider
from reactor.providers.seeds import inputs_of, seed_advice
from reactor.providers.transport import AnsweredError
from reactor.providers.unanswered import UNANSWERED, describe
from reactor.settings import Settings, SettingsError
from reactor.text.messages import message_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Worker = Settings | SettingsError | None
    Check = Callable[[Worker, ReplicateProvider | None], Awaitable[Finding]]

WITHIN = 15.0  # seconds for an answer of the provider
NEEDED = "REPLICATE_API_TOKEN: is required"  # how the complaint about a missing API token begins
NEARLY_USED = 0.9  # of the budget
ADVICE = "set REPLICATE_API_TOKEN to a valid one, from https://replicate.com/account/api-tokens"


@asynccontextmanager
async def opened(worker: Worker) -> AsyncIterator[ReplicateProvider | None]:
    """The provider, if the settings of a worker are usable; else None."""
    if not isinstance(worker, Settings):
        yield None
        return
    provider = ReplicateProvider(
        worker.secret("replicate_api_token"),
        model=worker.replicate_model_version,
        base_url=worker.replicate_base_url,
        api_prefix=worker.replicate_api_prefix,
        seed_input=worker.replicate_seed_input,
    )
    try:
        yield provider
    finally:
        with anyio.move_on_after(1.0, shield=True):
            await provider.aclose()


async def settings(worker: Worker, _provider: ReplicateProvider | None) -> Finding:
    """Whether `run` would start with these settings."""
    match worker:
        case None:
            raise UnknownError("only the settings of the database were given")
        case SettingsError(problems=problems):
            if any(problem.startswith(NEEDED) for problem in problems):
                raise UnknownError("no REPLICATE_API_TOKEN: run this where a worker runs, with its environment")
            return Finding("settings", "failed", "; ".join(problems), "correct these, or reactor run will not start")
        case _:
            return Finding("settings", "ok", "a worker would start with them")


async def api_token(_worker: Worker, provider: ReplicateProvider | None) -> Finding:
    """Whether the provider accepts the API token."""
    with anyio.move_on_after(WITHIN):
        try:
            await _usable(provider).check()
        except UnauthorizedError as error:
            return Finding("API token", "failed", message_of(error), ADVICE)
        except AccountError:
            return Finding("API token", "ok", "is accepted; see: model")
        except TransientError as error:
            raise UnknownError(message_of(error)) from error
        except GenerationError as error:
            return Finding("API token", "failed", message_of(error), ADVICE)
        return Finding("API token", "ok", "is accepted")
    raise UnknownError(f"no answer within {WITHIN:g} s")


async def model(worker: Worker, provider: ReplicateProvider | None) -> Finding:
    """Whether the model is there, and has the inputs that a worker sends."""
    result, asked = partial(Finding, "model"), _usable(provider)
    if not isinstance(worker, Settings):
        raise UnknownError("the settings of a worker are not complete")
    name = worker.replicate_model_version
    with anyio.move_on_after(WITHIN):
        try:
            described = await asked.described()
        except AnsweredError as error:
            if error.answer.status != 404:
                raise UnknownError(f"the provider answered {error.answer.status}") from error
            said = f"the provider knows no model {name}, or this account may not use it"
            return result("failed", said, "correct REPLICATE_MODEL_VERSION")
        except (UnreadableError, *UNANSWERED) as error:
            raise UnknownError(f"cannot reach the provider: {describe(error)}") from error
        return _judged(worker, name, inputs_of(described or {}))
    raise UnknownError(f"no answer within {WITHIN:g} s")


def _judged(worker: Settings, name: str, inputs: frozenset[str]) -> Finding:
    result, seed = partial(Finding, "model"), worker.replicate_seed_input
    if not inputs:
        raise UnknownError(f"the provider does not say which inputs {name} has; the first create will tell")
    if seed and seed not in inputs:
        return result("failed", f"{name} has no input {seed!r}", seed_advice(seed))
    if "prompt" not in inputs:
        return result("failed", f"{name} has no input 'prompt'", "set REPLICATE_MODEL_VERSION to a text-to-image model")
    if unknown := sorted(worker.replicate_model_input.keys() - inputs):
        todo = "correct REPLICATE_MODEL_INPUT, or creates may be refused"
        return result("warning", f"{name} has no input {', '.join(map(repr, unknown))}", todo)
    if seed:
        return result("ok", f"{name} has the inputs 'prompt' and {seed!r}")
    found = "it has one: set REPLICATE_SEED_INPUT=seed" if "seed" in inputs else "use a model with one, if you can"
    said = f"{name} gets no seed, so a create without an answer is sent again, and may be paid twice"
    return result("warning", said, found)


async def budget(worker: Worker, fetch: Callable[..., Awaitable[Any]]) -> Finding:
    """How much of the day's budget is left."""
    result = partial(Finding, "budget")
    if not isinstance(worker, Settings):
        raise UnknownError("the settings of a worker are not complete")
    rows = await fetch(plain_query("budget_today"))
    bought, most = rows[0]["bought"] if rows else 0, worker.daily_budget
    if not most:
        counted = f"; workers with one counted {bought:,} creates today" if bought else ""
        return result("ok", f"no DAILY_BUDGET{counted}")
    said = f"{bought:,} of {most:,} creates today, which ends at midnight UTC"
    if bought < NEARLY_USED * most:
        return result("ok", said)
    todo = "raise DAILY_BUDGET and restart the workers; or wait, or lift it for today once it is spent: reactor resume"
    return result("warning", said, todo)


def _usable(provider: ReplicateProvider | None) -> ReplicateProvider:
    if provider is None:
        raise UnknownError("the settings of a worker are not complete")
    return provider


CHECKS: dict[str, Check] = {"settings": settings, "API token": api_token, "model": model}
