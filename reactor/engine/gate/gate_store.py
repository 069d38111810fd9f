"""The statements about the one row of `reactor.intake`, the gate. When they are used is in `gate.py`."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from reactor.database.connections import RolledBackError
from reactor.database.table import plain_query
from reactor.engine.gate.checks import REFUSED
from reactor.text.foreign import fit

if TYPE_CHECKING:
    from reactor.database.session import Session
    from reactor.engine.gate.checks import Checks
    from reactor.text.redaction import Redactor

SPENT = "The daily budget "  # the reason of a spent budget's pause begins with this: see parts/spend.sql
Opening = Literal["create", "image", "check"]  # an accepted create; an image; a check that the API token passed


@dataclass(frozen=True, slots=True)
class Paused:
    """How the gate was closed."""

    was_open: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Refused:
    """How the gate was closed for a refused API token."""

    was_open: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Raised:
    """What became of a gate that a smaller budget had closed, after a larger budget was given."""

    opened: bool  # False: another pause keeps the gate closed
    reason: str
    bought: int  # creates of this day so far


async def gate_state(session: Session) -> dict[str, Any]:
    """Return the state of the gate: see the query. If the row was removed it is made anew. Raises DatabaseError.

    Another program may have written the reason, so it is cleaned, as `GateStore.open` cleans the one that it compares.
    """
    rows = await session.fetch(plain_query("gate_state"))
    if not rows:
        with suppress(RolledBackError):  # this role may not insert it
            await session.fetch(plain_query("restore_gate"))
        rows = await session.fetch(plain_query("gate_state"))
    if not rows:
        raise RolledBackError("reactor.intake has lost its row, and no worker claims without it; run: reactor migrate")
    return {**rows[0], "reason": fit(rows[0]["reason"] or "") or None}


class GateStore:
    """The row, as one worker closes and opens it."""

    def __init__(self, session: Session, wake_channel: str, redact: Redactor, checks: Checks) -> None:
        self._session = session
        self.checks = checks
        self._wake_channel = wake_channel
        self._redact = redact

    async def state(self) -> dict[str, Any]:
        """Return the state of the gate: see the query."""
        state = await gate_state(self._session)
        self.checks.looked(state)
        return state

    async def due(self, state: dict[str, Any]) -> bool:
        """Whether to check the API token now. It is read again if the gate is closed for it: it may be rotated."""
        if state["opens_on"] == "check":
            await self.checks.renew()
        return self.checks.due(state)

    async def pause(
        self, seconds: float, reason: str, *, probed: bool = False, opens_on: Literal["create", "image"] = "create"
    ) -> Paused | None:
        """Close the gate for the fleet. `probed`: for twice as long as before.

        Return whether it was open, and for how long it is closed; None if it was closed for longer, or by an operator.
        """
        query = plain_query("pause_gate")
        rows = await self._session.fetch(query, seconds, self._redact(reason), probed, opens_on)
        return Paused(**rows[0]) if rows else None

    async def refused(self, seconds: float) -> Refused | None:
        """Close the gate for the fleet because a create was refused for this worker's API token.

        `seconds`: until the next check of the API token, if a check has passed before and creates are still refused.

        Return how it was and why it is closed; None if it was closed for that already, or by an operator.
        """
        reason = self._redact(REFUSED)
        rows = await self._session.fetch(plain_query("refuse_gate"), self.checks.mark, reason, seconds)
        return Refused(**rows[0]) if rows else None

    async def proven(self) -> None:
        """After an accepted create, forget that this worker's API token was refused, if the gate is open."""
        if self.checks.unproven:
            await self._session.fetch(plain_query("prove_gate"), self.checks.mark)
            self.checks.unproven = False

    async def limit(self, create_interval: float) -> bool:
        """Keep the fleet's creates so many seconds apart for ten minutes; return whether that limit is new."""
        rows = await self._session.fetch(plain_query("limit_gate"), create_interval)
        return bool(rows and rows[0]["news"])

    async def raise_budget(self, budget: int) -> Raised | None:
        """Open the gate, and wake the fleet, if a smaller budget closed it; None if not, or `budget` is spent too."""
        rows = await self._session.fetch(plain_query("raise_budget"), budget, self._wake_channel)
        return Raised(rows[0]["opened"], fit(rows[0]["reason"] or ""), rows[0]["bought"]) if rows else None

    async def half_open(self) -> None:
        """Let the next token through a half-open gate at once, and wake the fleet."""
        await self._session.fetch(plain_query("half_open_gate"), self._wake_channel)

    async def open(self, learnt: Opening, reason: str | None = None) -> bool:
        """Open the gate if it opens on `learnt`, and wake the fleet; return whether it opened.

        `reason`: why the gate was closed before a check. If it is closed for another reason by now, it stays closed.
        """
        stored = self._redact(reason) if reason is not None else None
        return bool(await self._session.fetch(plain_query("open_gate"), learnt, stored, self._wake_channel))
