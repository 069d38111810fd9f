"""The gate: whether the fleet claims at all. Kept in one row, `reactor.intake`, which every claim reads.

    open ──429, account, token, breaker──▶ closed for a while ──time passes──▶ half-open ──a create is accepted──▶ open
                                                  ▲                                 │
                                                  └── twice as long, up to 60 s ── the probe fails

Half-open, a claim takes one token, and no other worker a second before `pause_seconds` have passed. What fails while
the gate is shut or half-open is the provider's or the account's fault, as other tokens have shown: nothing is counted
against the token, unless something was bought for it.

A refused API token closes it until `check()` passes: no token is spent on finding out. An operator's `reactor pause`
closes it until `reactor resume`: nothing here opens it, and no other reason takes its place.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from reactor.backoff import jittered
from reactor.database import ConnectionLostError, DatabaseError
from reactor.errors import AccountError, GenerationError, RateLimitedError, TransientError, UnauthorizedError
from reactor.messages import message_of
from reactor.store import Paused
from reactor.telemetry import Trouble

if TYPE_CHECKING:
    from reactor.breaker import Breaker
    from reactor.providers import Provider
    from reactor.store import Store
    from reactor.telemetry import Telemetry
    from reactor.tokens import Claim
    from reactor.wake import Wake

CHECK_EVERY = 10.0  # seconds between checks of a refused API token
BREAKER_PAUSE = 5.0  # seconds
ACCOUNT_PAUSE = 10.0  # seconds: credit bought "takes a few minutes" to count, and a probe costs nothing
_REFUSED = "Invalid API token"


class Intake:
    """Closes and opens the gate for what attempts learn about the account."""

    def __init__(self, store: Store, provider: Provider, breaker: Breaker, telemetry: Telemetry, wake: Wake) -> None:
        self._store = store
        self._breaker = breaker
        self._provider = provider
        self._telemetry = telemetry
        self._wake = wake
        self._trouble = Trouble(telemetry, "intake")
        self._told: str | None = None  # how the gate stood when last told of: see _standing

    async def learn(self, claim: Claim, error: GenerationError, *, bought: bool) -> float | None:
        """Close the gate where the error is not the token's own, before its token goes back to be claimed again.

        Return after how many seconds the token may be tried again with nothing counted; None where it is its own.
        """
        if error.answered:
            self._reached(self._breaker.answered())
        match error:
            case UnauthorizedError():
                return 0.0 if await self._pause(None, _REFUSED) is None else None
            case AccountError():
                return await self._account_failed(claim, ACCOUNT_PAUSE, message_of(error))
            case RateLimitedError(retry_after=float() as seconds):
                return await self._account_failed(claim, seconds, message_of(error))
            case TransientError():
                return await self._provider_failed(claim, error, bought=bought)
            case _:
                await self.unproven(claim)
                return None

    async def _account_failed(self, claim: Claim, seconds: float, reason: str) -> float | None:
        paused = await self._pause(seconds, reason, probed=claim.probe)
        return _after(paused) if claim.probe else None

    async def _provider_failed(self, claim: Claim, error: TransientError, *, bought: bool) -> float | None:
        broke = self._breaker.failed(bought=bought, prompt=_blamed(claim, error))
        excuse: float | None = 0.0
        alone = not error.answered and self._breaker.on  # whether others reach the provider, they find out
        if (claim.probe and not bought and not alone) or (broke and error.answered):
            paused = await self._pause(BREAKER_PAUSE, f"Failures in a row: {message_of(error)}", probed=claim.probe)
            excuse = _after(paused) if claim.probe else 0.0
        elif broke or (claim.probe and not bought):
            excuse = self._rest(claim, error) if broke else 0.0
            await self.unproven(claim)
        elif bought or not await self._is_shut():
            excuse = None
        return None if bought else excuse

    def _rest(self, claim: Claim, error: GenerationError) -> float:
        seconds = self._breaker.rest(claim.fence)
        if seconds is None:
            return 0.0
        reason = f"This worker does not reach the provider: {message_of(error)}"
        self._telemetry.emit("intake.paused", reason=reason, seconds=seconds, worker_only=True)
        return seconds + 1.0

    async def accepted(self, claim: Claim) -> None:
        """Open the gate where the provider took the one token that it let through."""
        self._reached(self._breaker.accepted())
        if claim.probe:
            await self._open(None)

    def _reached(self, rested: bool) -> None:  # noqa: FBT001  (as the breaker tells it)
        if rested:
            self._telemetry.emit("intake.resumed", worker_only=True)
            self._wake.ring()

    def succeeded(self) -> None:
        """An image is there: whatever failed before is over."""
        self._breaker.succeeded()

    async def unproven(self, claim: Claim) -> None:
        """Let another token through: this one asked the provider for nothing, or was refused for itself."""
        if self._breaker.told_nothing(claim.fence):
            self._wake.ring()
        if claim.probe:
            with suppress(DatabaseError):  # then the next one is let through a little later
                await self._store.half_open_intake()

    async def run(self) -> None:
        """Look every CHECK_EVERY how the gate stands, and whether a refused token is accepted again."""
        while True:
            try:
                await self._look()
            except (ConnectionLostError, GenerationError):
                # Still away, or still refused: the gate stays as it is until the next look.
                await anyio.lowlevel.checkpoint()
            except DatabaseError as error:
                self._trouble.met(error)
            else:
                self._trouble.passed()
            await anyio.sleep(jittered(CHECK_EVERY))

    async def _look(self) -> None:
        """Tell of a gate that another worker or an operator closed or opened, and check a refused token."""
        state = await self._store.intake()
        reason, seconds = state["reason"] or "", state["resumes_in"]
        before, self._told = self._told, _standing(seconds, reason) if state["paused"] else None
        if self._told not in {None, before}:
            self._telemetry.emit("intake.paused", reason=reason, seconds=seconds)
        elif self._told is None and before is not None:
            self._telemetry.emit("intake.resumed", reason=before)
        if self._told == _REFUSED:
            await self._provider.check()
            await self._open(_REFUSED)

    async def _pause(self, seconds: float | None, reason: str, *, probed: bool = False) -> Paused | None:
        """Close the gate; None where it was closed for longer already: then this token tells nothing new."""
        try:
            paused = await self._store.pause_intake(seconds, reason, probed=probed)
        except DatabaseError:
            # Nobody can claim either; whoever meets the error next closes it.
            return Paused(was_open=False, seconds=seconds)
        if paused is not None and paused.was_open:
            self._told = _standing(seconds, reason)
            self._telemetry.emit("intake.paused", reason=reason, seconds=seconds)
        return paused

    async def _is_shut(self) -> bool:
        try:
            return bool((await self._store.intake())["paused"])
        except DatabaseError:
            return False

    async def _open(self, reason: str | None) -> None:
        try:
            opened = await self._store.open_intake(reason)
            if opened is not None:
                self._told = None
                self._telemetry.emit("intake.resumed", reason=opened)
                await self._store.ring(self._store.table.wake_channel)
        except DatabaseError:
            return  # it stays half-open: the next probe opens it
        self._wake.ring()


def _after(paused: Paused | None) -> float:
    """Seconds until the token that failed as the probe is tried again: once another has had its turn."""
    return 0.0 if paused is None or paused.seconds is None else paused.seconds + 1.0


def _blamed(claim: Claim, error: TransientError) -> str | None:
    """The prompt that may be the reason of a failure; '' for the operator's own. None if no prompt can be."""
    if not error.unexplained:
        return None
    return "" if claim.censored else claim.prompt or ""


def _standing(seconds: float | None, reason: str) -> str:
    """What makes a pause another one, worth telling: its reason where it has no end; else only that it is there."""
    return reason if seconds is None else ""
