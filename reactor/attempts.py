"""The attempts under way: each begins with a claim and ends settled, released or lost. There is no other way out."""

from __future__ import annotations

import asyncio
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never

import anyio

from reactor.database import REFUSED
from reactor.echoes import Echoes
from reactor.failpoints import reached
from reactor.messages import message_of
from reactor.purchase import LeaseOverError
from reactor.tokens import Bought, Failed, Released, Retry, Succeeded

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from reactor.attempt import Attempt, Rules
    from reactor.keeper import Holding, Keeper
    from reactor.settler import Settler
    from reactor.telemetry import Telemetry
    from reactor.tokens import Claim, Outcome


class Attempts:
    """Runs the attempts in a task group of its own, and tells a token's life in two events.

    A task runs one after another: to begin one costs more than all else between a claim and its request.
    """

    def __init__(
        self,
        *,
        attempt: Callable[[Claim, Callable[[], bool]], Attempt],
        keeper: Keeper,
        settler: Settler,
        telemetry: Telemetry,
        rules: Rules,
    ) -> None:
        self._group = anyio.create_task_group()
        self._idle: list[asyncio.Future[Holding | None]] = []  # what tasks wait for that have nothing to do
        self._closing = False
        self._attempt = attempt
        self._keeper = keeper
        self._settler = settler
        self._telemetry = telemetry
        self._rules = rules

    async def __aenter__(self) -> anyio.CancelScope:
        """Open the group; cancelling the scope hands back what is under way."""
        await self._group.__aenter__()
        return self._group.cancel_scope

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """Wait for what is under way."""
        self._closing = True
        for given in self._idle:
            if not given.done():
                given.set_result(None)
        return await self._group.__aexit__(kind, error, trace)

    def start(self, claim: Claim) -> None:
        """Occupy a slot and begin."""
        holding = self._keeper.hold(claim)
        while self._idle:
            given = self._idle.pop()
            if not given.done():  # else a stop came first
                given.set_result(holding)
                return
        self._group.start_soon(self._run_one_after_another, holding)

    async def _run_one_after_another(self, holding: Holding | None) -> None:
        while True:
            with anyio.CancelScope() as scope:  # entered by a task that waits: then it costs the attempt nothing
                holding = holding or await self._next()
                if holding is None:
                    return
                holding.begin(scope)
                await self._run(holding)
            holding = None

    async def _next(self) -> Holding | None:
        if self._closing:
            return None
        given: asyncio.Future[Holding | None] = asyncio.get_running_loop().create_future()
        self._idle.append(given)
        # anyio cancels no task that was given something: its attempt begins, and hands the token back.
        return await given

    async def _run(self, holding: Holding) -> None:
        started_at = time.monotonic()
        attempt = self._attempt(holding.claim, holding.lease_runs)
        try:
            self._tell_begin(holding.claim)
            outcome = await self._outcome(attempt, holding)
            if outcome is not None:
                await self._settle(holding, outcome, started_at)
        except anyio.get_cancelled_exc_class():
            if holding.lost:
                self._tell_lost(attempt.claim, attempt.prediction_id)
            raise
        finally:
            self._keeper.let_go(holding)

    async def _outcome(self, attempt: Attempt, holding: Holding) -> Outcome | None:
        try:
            outcome = await attempt.run()
        except LeaseOverError:
            outcome = None
        except anyio.get_cancelled_exc_class():
            if not holding.lost:  # hand back what shutdown cut short
                await reached("before_release")
                await self._settle(holding, attempt.released(), time.monotonic())
                await reached("released")
            raise
        except Exception as error:  # noqa: BLE001  (the edge: a bug of ours fails its token, and no other)
            # Where it was, not what it said: that may repeat the prompt.
            reason, place = f"Internal error: {type(error).__name__}", traceback.extract_tb(error.__traceback__)[-1]
            self._telemetry.emit(
                "worker.error",
                role="attempt",
                token_id=attempt.claim.token_id,
                prediction_id=attempt.prediction_id,
                error_type=type(error).__name__,
                error_message=f"in {place.name}, {Path(place.filename).name}:{place.lineno}",
            )
            outcome = Failed(attempt.claim, reason, "PermanentError", attempt.claim.attempts, attempt.prediction_id)
        if outcome is None:
            self._tell_lost(attempt.claim, attempt.prediction_id)
        return outcome

    async def _settle(self, holding: Holding, outcome: Outcome, started_at: float) -> None:
        holding.settling = True
        try:
            written = await self._settler.settle(outcome)
        except REFUSED as error:
            self._keeper.leave(holding.claim.id)
            if outcome.prediction_id is not None:  # whoever takes the row over later resumes it
                self._settler.record(Bought(outcome.claim, outcome.prediction_id))
            self._tell_unsettled(outcome, error.kind, f"cannot be ended, left to its lease: {message_of(error)}")
        except anyio.get_cancelled_exc_class():
            self._tell_unsettled(outcome, "TimeoutError", "the worker stopped before the database answered")
            raise
        else:
            holding.over = isinstance(written, (Succeeded, Failed))
            if written is None:
                self._tell_lost(outcome.claim, outcome.prediction_id)
            else:
                self._tell_end(written, time.monotonic() - started_at)

    def _tell_begin(self, claim: Claim) -> None:
        event = "token.generation.resumed" if claim.prediction_id else "token.generation.started"
        fields: dict[str, Any] = {"prediction_id": claim.prediction_id} if claim.prediction_id else {}
        attempt = claim.attempts + 1
        self._telemetry.emit(
            event, token_id=claim.token_id, attempt=attempt, max_attempts=self._rules.max_attempts, **fields
        )

    def _tell_lost(self, claim: Claim, prediction_id: str | None) -> None:
        self._telemetry.emit("token.lease_lost", token_id=claim.token_id, prediction_id=prediction_id)

    def _tell_unsettled(self, outcome: Outcome, kind: str, message: str) -> None:
        """Tell of an outcome that nobody wrote down. Its prediction is named, because it may have been paid for."""
        told = {"token_id": outcome.claim.token_id, "prediction_id": outcome.prediction_id}
        self._telemetry.emit("worker.error", role="attempt", **told, error_type=kind, error_message=message)

    def _tell_end(self, outcome: Outcome, duration: float) -> None:
        claim = outcome.claim
        told: dict[str, Any] = {"token_id": claim.token_id, "duration_seconds": round(duration, 3)}
        match outcome:
            case Succeeded():
                told |= {"image_url": self._told_url(outcome), "prediction_id": outcome.prediction_id}
                self._telemetry.emit("token.generation.succeeded", attempt=claim.attempts + 1, **told)
            case Retry():
                event, told["retry_in_seconds"] = "token.generation.retry", round(outcome.due_in, 3)
                self._telemetry.emit(event, **told, **self._error(outcome), attempt=claim.attempts + 1)
            case Failed():
                event = "token.generation.exhausted" if outcome.exhausted else "token.generation.failed"
                self._telemetry.emit(event, **told, **self._error(outcome), attempt=claim.attempts + 1)
            case Released():
                self._telemetry.emit("token.generation.released", token_id=claim.token_id, **self._error(outcome))
            case _:
                assert_never(outcome)

    def _told_url(self, outcome: Succeeded) -> str:
        """The image's URL as the log may have it, because a provider can name a file after its prompt.

        The row has it as it is.
        """
        return Echoes(outcome.claim.prompt, *self._rules.prompts).hide(outcome.image_url)

    def _error(self, outcome: Retry | Failed | Released) -> dict[str, Any]:
        message = outcome.reason if isinstance(outcome, Released) else outcome.error
        fields = {
            "max_attempts": self._rules.max_attempts,
            "error_type": outcome.error_type,
            "error_message": message,
            "prediction_id": outcome.prediction_id,
        }
        return {name: value for name, value in fields.items() if value is not None}
