"""The gate: whether the fleet may claim. Its state is the one row of `reactor.intake`, which every claim reads.

    open ──429, account, failures──▶ closed for a while ──time passes──▶ half-open ──a create is accepted──▶ open
                                             ▲                                │
                                             └─ twice as long, up to 60 s ─ the probe fails

While the gate is half-open, one claim takes one token: the probe. The fleet gets no second token before the row's
`pause_seconds` have passed. If an attempt fails while the gate is closed or half-open, the provider or the account is
at fault, as other tokens have shown. So nothing counts against the token, unless something was bought for it.

Four kinds of pause do not end by an accepted create, but by:

    bought predictions that failed in a row   an image, because such a model accepts every create. Until then nothing
                                              counts against a token for which something was bought either
    a refused API token                       `check()` passes; so no token is spent on finding out
    an operator's `reactor pause`             its end, or `reactor resume`. Only a spent budget whose day ends later
                                              replaces it
    a spent DAILY_BUDGET                      the end of the UTC day, `reactor resume`, or a worker that starts with a
                                              larger budget: see inspector.py. It does not replace the pause for a
                                              refused API token. A gate that waits for an image is half-open then

If a 429 names a lower limit of the account, the fleet also slows down to that limit for ten minutes.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from reactor import events
from reactor.database.connections import DatabaseError
from reactor.engine.gate.blame import Blamed, Excused
from reactor.engine.gate.gate_store import Paused
from reactor.errors import (
    AccountError,
    GenerationError,
    RateLimitedError,
    RepeatedPromptError,
    TransientError,
    UnauthorizedError,
)
from reactor.text.messages import message_of

if TYPE_CHECKING:
    from reactor.engine.gate.announcer import Announcer
    from reactor.engine.gate.blame import Blame
    from reactor.engine.gate.breaker import Breaker
    from reactor.engine.gate.gate_store import GateStore, Opening
    from reactor.engine.timings import Timings
    from reactor.engine.wake.wake import Wake
    from reactor.telemetry import Telemetry
    from reactor.tokens import Claim


class Gate:
    """Closes and opens the gate when attempts show how the account and the model are."""

    def __init__(
        self,
        store: GateStore,
        breaker: Breaker,
        announcer: Announcer,
        telemetry: Telemetry,
        wake: Wake,
        *,
        timings: Timings,
    ) -> None:
        self._store = store
        self._breaker = breaker
        self._announcer = announcer
        self._telemetry = telemetry
        self._wake = wake
        self._timings = timings

    async def learn(self, claim: Claim, error: GenerationError, *, bought: bool, probe: str | None) -> Blame:
        """Close the gate if the error is not the token's own; return whether the attempt counts against the token.

        The gate closes first, so that the token is not claimed again at once.
        """
        if error.answered:
            self._reached(self._breaker.answered())
        match error:
            case UnauthorizedError():
                return Blamed() if await self._refused() else Excused()
            case AccountError():
                return await self._account_failed(probe, self._timings.account_pause, message_of(error))
            case RateLimitedError(retry_after=float() as seconds):
                await self._limit(error)
                return await self._account_failed(probe, seconds, message_of(error))
            case TransientError() if not isinstance(error, RepeatedPromptError):
                failed = self._generation_failed if bought else self._create_failed
                return await failed(claim, error, probe)
            case _:
                await self.let_another_through(claim, probe)
                return Blamed()

    async def _refused(self) -> bool:
        """Close the gate for a refused API token; return whether this attempt is the one that closed it."""
        try:
            refused = await self._store.refused(2 * self._timings.check_every)
        except DatabaseError:
            return True  # no worker can claim either; the next attempt that meets the error closes the gate
        if refused is not None and refused.was_open:
            self._announcer.closed(None, refused.reason, "check", was_open=True)
        return refused is not None

    async def _account_failed(self, probe: str | None, seconds: float, reason: str) -> Blame:
        paused = await self._pause(seconds, reason, probed=probe is not None)
        return Excused(_after(paused)) if probe else Blamed()

    async def _limit(self, error: RateLimitedError) -> None:
        if error.limit_per_minute is None:
            return
        with suppress(DatabaseError):  # the next 429 tries again
            if await self._store.limit(60.0 / error.limit_per_minute):
                fields = {"limit_per_minute": error.limit_per_minute, "reason": message_of(error)}
                self._telemetry.emit(events.INTAKE_LIMITED, **fields)

    async def _create_failed(self, claim: Claim, error: TransientError, probe: str | None) -> Blame:
        broke = self._breaker.failed(bought=False)
        # Without an answer, perhaps only this worker does not reach the provider. The others find out for themselves.
        alone = not error.answered and self._breaker.on
        if (probe and not alone) or (broke and error.answered):
            paused = await self._pause(
                self._timings.breaker_pause, f"Failures in a row: {message_of(error)}", probed=probe is not None
            )
            return Excused(_after(paused) if probe else 0.0)
        if broke or probe:
            wait = self._rest(claim, error) if broke else 0.0
            await self.let_another_through(claim, probe)
            return Excused(wait)
        return Excused() if await self._shut_for() else Blamed()

    async def _generation_failed(self, claim: Claim, error: TransientError, probe: str | None) -> Blame:
        broke = self._breaker.failed(bought=True, prompt=_suspect(claim, error))
        if broke or probe:
            reason = f"Generations fail in a row: {message_of(error)}"
            paused = await self._pause(self._timings.breaker_pause, reason, probed=probe is not None, opens_on="image")
            return Excused(_after(paused) if probe else 0.0)
        return Excused() if await self._shut_for() == "image" else Blamed()

    def _rest(self, claim: Claim, error: GenerationError) -> float:
        """Rest this worker if it does not rest yet; return the seconds until the token may be tried again."""
        seconds = self._breaker.rest(claim.fence)
        if seconds is None:
            return 0.0
        reason = f"This worker does not reach the provider: {message_of(error)}"
        self._telemetry.emit(events.INTAKE_PAUSED, reason=reason, seconds=seconds, worker_only=True)
        return seconds + 1.0

    async def accepted(self, probe: str | None) -> None:
        """After an accepted create, open the gate if it waited for that."""
        self._reached(self._breaker.accepted())
        if probe == "create":
            await self._open("create")
        with suppress(DatabaseError):  # the next accepted create tries again
            await self._store.proven()

    async def succeeded(self, probe: str | None) -> None:
        """After an image, open the gate: the failures before are over."""
        self._breaker.succeeded()
        if probe or self._announcer.paused:
            await self._open("image")

    def _reached(self, rested: bool) -> None:  # noqa: FBT001  (as the breaker returns it)
        """Log the end of a rest, and claim again at once."""
        if rested:
            self._telemetry.emit(events.INTAKE_RESUMED, worker_only=True)
            self._wake.ring()

    async def let_another_through(self, claim: Claim, probe: str | None) -> None:
        """Let another be the probe or trial: this token asked the provider for nothing, or the error was its own."""
        if self._breaker.cancel_trial(claim.fence):
            self._wake.ring()
        if probe:
            with suppress(DatabaseError):  # if this fails, the next probe comes a little later
                await self._store.half_open()

    async def _pause(
        self, seconds: float, reason: str, *, probed: bool = False, opens_on: Literal["create", "image"] = "create"
    ) -> Paused | None:
        """Close the gate; None if it was closed for longer already, because then this token shows nothing new."""
        try:
            paused = await self._store.pause(seconds, reason, probed=probed, opens_on=opens_on)
        except DatabaseError:
            # No worker can claim either; the next attempt that meets the error closes the gate.
            return Paused(was_open=False, seconds=seconds)
        if paused is not None and paused.was_open:
            self._announcer.closed(paused.seconds, reason, opens_on, was_open=True)
        return paused

    async def _shut_for(self) -> str | None:
        """Return what opens the closed gate; None if it is open, or the database is away."""
        try:
            state = await self._store.state()
        except DatabaseError:
            return None
        return str(state["opens_on"]) if state["paused"] else None

    async def _open(self, learnt: Opening) -> None:
        with suppress(DatabaseError):  # it stays half-open, and the next probe opens it
            if await self._store.open(learnt):
                self._announcer.opened()
                self._wake.ring()


def _after(paused: Paused | None) -> float:
    """Seconds until a failed probe is tried again: one more than the pause, so that another token is the next probe."""
    return 0.0 if paused is None else paused.seconds + 1.0


def _suspect(claim: Claim, error: TransientError) -> str | None:
    """The prompt that may be the reason for a failure; '': the operator's own; None: no prompt can be the reason."""
    if not error.unexplained:
        return None
    return "" if claim.censored else claim.prompt or ""
