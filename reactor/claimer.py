"""Claims tokens: goes around those that the table refuses, and in a backlog goes on from the last one.

A host's CHECK or trigger can refuse that a row becomes `generating`, and with it the whole claim. Its token would stand
at the head of the queue for ever.

While somebody holds an old snapshot (a dump, a report), no row that was claimed leaves the index, and each claim from
the front passes all of them: 50 ns a row. So after two full claims in a row the next goes on from the last token. What
came in behind that, or was locked, is found by the next claim from the front. One is made once a second at least, as
often as costs a twentieth of the time, and always before it is said that there is no more.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from reactor.database import RowRefusedError
from reactor.messages import message_of

if TYPE_CHECKING:
    from uuid import UUID

    from reactor.store import Store
    from reactor.telemetry import Telemetry
    from reactor.tokens import Claim

MOST_REFUSALS = 100  # in one go: those behind them have their turn in the next
PASS_OVER, LONGEST_PASS_OVER = 5.0, 300.0  # seconds until a refused token is asked for again, twice as many each time
MOST_REMEMBERED = 10_000  # refused tokens
ONWARD_FOR, LONGEST_ONWARD = 20.0, 1.0  # times what a claim from the front takes longer; seconds


class Claimer:
    """One claim statement; after a refusal, one per token."""

    def __init__(self, store: Store, telemetry: Telemetry) -> None:
        self._store = store
        self._telemetry = telemetry
        self._refused: dict[UUID, tuple[float, float]] = {}  # until when, in monotonic seconds, and for how long
        self._after: UUID | None = None  # where the next claim goes on
        self._onward_until = 0.0  # monotonic seconds
        self._onward_took = 0.0  # seconds
        self.more = False  # the last claim may have left some

    async def claim(self, slots: int, worker: int) -> list[Claim]:
        """Return up to `slots` tokens, in mint order. Raises DatabaseError."""
        began = time.monotonic()
        after = self._after if began < self._onward_until else None
        backlog, self.more, self._after = self.more, False, None
        try:
            claims = await self._store.claim(slots, worker, self._passed_over(), after)
        except RowRefusedError:
            return await self._one_by_one(slots, worker)
        self._took(began, onward=after is not None)
        full = len(claims) == slots
        if full and backlog:
            self._after = claims[0].last_fresh
        self.more = full or after is not None
        return claims

    def _took(self, began: float, *, onward: bool) -> None:
        now = time.monotonic()
        if onward:
            self._onward_took = now - began
        else:
            saved = max(0.0, now - began - self._onward_took)
            self._onward_until = now + min(ONWARD_FOR * saved, LONGEST_ONWARD)

    async def _one_by_one(self, slots: int, worker: int) -> list[Claim]:
        claims: list[Claim] = []
        refusals = 0
        while len(claims) < slots and refusals < MOST_REFUSALS:
            try:
                one = await self._store.claim(1, worker, self._passed_over())
            except RowRefusedError as error:
                refusals += 1
                if not await self._pass_over(error) and not claims:
                    raise
            else:
                claims += one
                if not one:
                    break
        self.more = len(claims) == slots or refusals >= MOST_REFUSALS
        return claims

    async def _pass_over(self, error: RowRefusedError) -> bool:
        """Pass over what a claim would take first; return whether there is such a token."""
        first = await self._store.first(self._passed_over())
        if first is None:
            return False
        id_, token_id = first
        if id_ not in self._refused:
            told = {"error_type": error.kind, "error_message": message_of(error)}
            self._telemetry.emit("worker.error", role="claimer", token_id=token_id, **told)
        now = time.monotonic()
        if len(self._refused) >= MOST_REMEMBERED:
            self._refused = {key: kept for key, kept in self._refused.items() if kept[0] > now}
        _, before = self._refused.get(id_, (0.0, 0.0))
        seconds = min(max(PASS_OVER, 2 * before), LONGEST_PASS_OVER)
        self._refused[id_] = now + seconds, seconds
        return True

    def _passed_over(self) -> list[UUID]:
        now = time.monotonic()
        return [id_ for id_, (until, _) in self._refused.items() if until > now]
