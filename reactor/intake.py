"""The gate: whether the fleet claims at all. Kept in one row, `reactor.intake`, which every claim reads.

    open ──429, account, token──▶ closed for a while ──time passes──▶ half-open ──a create is accepted──▶ open
                                       ▲                                 │
                                       └────────── the probe fails ──────┘

A refused API token closes it until `check()` passes: no token is spent on finding out. An operator's `reactor pause`
closes it until `reactor resume`: nothing here opens it, and no other reason takes its place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from reactor.backoff import jittered
from reactor.database import DatabaseError
from reactor.errors import AccountError, GenerationError, RateLimitedError, UnauthorizedError

if TYPE_CHECKING:
    from reactor.providers import Provider
    from reactor.store import Store
    from reactor.telemetry import Telemetry
    from reactor.tokens import Claim
    from reactor.wake import Wake

CHECK_EVERY = 10.0  # seconds between checks of a refused API token
ACCOUNT_PAUSE = 10.0  # seconds: credit bought "takes a few minutes" to count, and a probe costs nothing
_REFUSED = "Invalid API token"


class Intake:
    """Closes and opens the gate for what attempts learn about the account."""

    def __init__(self, store: Store, provider: Provider, telemetry: Telemetry, wake: Wake) -> None:
        self._store = store
        self._provider = provider
        self._telemetry = telemetry
        self._wake = wake
        self._told: str | None = None  # how the gate stood when last told of: see _standing

    async def learn(self, error: GenerationError) -> bool:
        """Close the gate where the error is the account's, before its token goes back to be claimed again.

        Return whether it was closed for longer already: then this token was claimed before that, and tells nothing new.
        """
        match error:
            case UnauthorizedError():
                return await self._pause(None, _REFUSED)
            case AccountError():
                return await self._pause(ACCOUNT_PAUSE, str(error))
            case RateLimitedError(retry_after=float() as seconds):
                return await self._pause(seconds, str(error))
            case _:
                return False

    async def accepted(self, claim: Claim) -> None:
        """Open the gate where the provider took the one token that it let through."""
        if claim.probe:
            await self._open(None)

    async def run(self) -> None:
        """Look every CHECK_EVERY how the gate stands, and whether a refused token is accepted again."""
        while True:
            try:
                await self._look()
            except (DatabaseError, GenerationError):
                # Still away, or still refused: the gate stays as it is until the next look.
                await anyio.lowlevel.checkpoint()
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

    async def _pause(self, seconds: float | None, reason: str) -> bool:
        try:
            was_open = await self._store.pause_intake(seconds, reason)
        except DatabaseError:
            return False  # nobody can claim either; whoever meets the error next closes it
        if was_open:
            self._told = _standing(seconds, reason)
            self._telemetry.emit("intake.paused", reason=reason, seconds=seconds)
        return was_open is None

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


def _standing(seconds: float | None, reason: str) -> str:
    """What makes a pause another one, worth telling: its reason where it has no end; else only that it is there."""
    return reason if seconds is None else ""
