"""The attempts under way. Each begins with a claim, and ends in one of four ways.

settled    its outcome is in the row: succeeded, failed, or due again
released   a stop cut it short, and the token is back in the queue
lost       another worker has the token, or may have it
unwritten  the row cannot be written, or the worker stops before the database answers: the lease has to run out
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio

from reactor.database.connections import REFUSED
from reactor.engine.generate.purchase import LeaseOverError
from reactor.engine.generate.token_events import TokenEvents
from reactor.failpoints import reached
from reactor.text.messages import message_of
from reactor.tokens import Bought, Failed, Succeeded

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from reactor.engine.generate.attempt import Attempt, Rules
    from reactor.engine.leases import Holding, Leases
    from reactor.engine.settle.settler import Settler
    from reactor.telemetry import Telemetry
    from reactor.tokens import Claim, Outcome


class Attempts:
    """Runs every attempt in a task of its own, within one task group."""

    def __init__(
        self,
        *,
        attempt: Callable[[Claim, str | None, Callable[[], bool]], Attempt],
        leases: Leases,
        settler: Settler,
        telemetry: Telemetry,
        rules: Rules,
    ) -> None:
        self._group = anyio.create_task_group()
        self._attempt = attempt
        self._leases = leases
        self._settler = settler
        self._events = TokenEvents(telemetry, rules)

    async def __aenter__(self) -> anyio.CancelScope:
        """Open the group; cancelling the scope hands back the tokens under way."""
        await self._group.__aenter__()
        return self._group.cancel_scope

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """Wait for the attempts under way."""
        return await self._group.__aexit__(kind, error, trace)

    def start(self, claim: Claim, probe: str | None = None) -> None:
        """Occupy a slot and begin. `probe`: what opens the half-open gate; None if this token is not the probe."""
        self._group.start_soon(self._run, self._leases.hold(claim), probe)

    async def _run(self, holding: Holding, probe: str | None) -> None:
        """Work on a token until it is settled, handed back or lost, then free its slot."""
        attempt = self._attempt(holding.claim, probe, holding.lease_runs)
        try:
            with anyio.CancelScope() as scope:
                holding.begin(scope)
                await self._work(holding, attempt)
        finally:
            self._leases.free_slot(holding)

    async def _work(self, holding: Holding, attempt: Attempt) -> None:
        started_at = time.monotonic()
        try:
            self._events.began(holding.claim)
            outcome = await self._outcome(attempt, holding)
            if outcome is not None:
                await self._settle(holding, outcome, started_at)
        except anyio.get_cancelled_exc_class():
            if holding.lost:
                self._lost(attempt)
            raise

    async def _outcome(self, attempt: Attempt, holding: Holding) -> Outcome | None:
        try:
            outcome = await attempt.run()
        except LeaseOverError:
            outcome = None
        except anyio.get_cancelled_exc_class():
            if not holding.lost:  # hand back a token whose attempt a stop cut short
                await reached("before_release")
                await self._settle(holding, attempt.released(), time.monotonic())
                await reached("released")
            raise
        except Exception as error:  # noqa: BLE001  (the edge: a bug of ours fails its token, and no other)
            self._events.crashed(attempt, error)
            reason = f"Internal error: {type(error).__name__}"
            outcome = attempt.failed(reason, attempts=attempt.claim.attempts)
        if outcome is None:
            self._lost(attempt)
        return outcome

    def _lost(self, attempt: Attempt) -> None:
        released = attempt.released()
        self._events.lost(released)
        if released.prediction_id is not None:
            self._settler.tell(released)

    async def _settle(self, holding: Holding, outcome: Outcome, started_at: float) -> None:
        holding.settle()
        settling_at = time.monotonic()
        try:
            written = await self._settler.settle(outcome)
        except REFUSED as error:
            self._leases.leave_alone(holding.claim.id)
            if outcome.prediction_id is not None:  # a later holder of the row resumes it
                self._settler.record(Bought(outcome.claim, outcome.prediction_id))
            self._events.unsettled(
                outcome, error.kind, f"cannot be settled, so its lease has to run out: {message_of(error)}"
            )
        except anyio.get_cancelled_exc_class():
            self._events.unsettled(outcome, "TimeoutError", "the worker stopped before the database answered")
            raise
        else:
            if isinstance(written, (Succeeded, Failed)):
                holding.end()
            now = time.monotonic()
            if written is None:
                self._events.lost(outcome, settling=now - settling_at)
            else:
                self._events.ended(written, now - started_at, settling=now - settling_at)
