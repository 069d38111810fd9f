"""Makes each claim: from the front of the queue, in a backlog behind the last claim, or around refused tokens.

While somebody holds an old snapshot (a dump, a report), no row that was claimed leaves the index, and each claim from
the front passes all of them: 50 ns a row. So after two full claims in a row, the next claim starts behind the last
token. It misses tokens that were locked or came in before that place; the next claim from the front finds them. A claim
from the front is made once a second at least, more often as long as that costs at most a twentieth of the time, and
always before the claimer says that there is no more.

If the database refuses to let us claim some tokens, the front is the place behind them: see detour.py.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from reactor.database.connections import REFUSED
from reactor.engine.claim.detour import Detour

if TYPE_CHECKING:
    from collections.abc import Callable

    from reactor.database.store import Store
    from reactor.engine.timings import Timings
    from reactor.telemetry import Telemetry
    from reactor.tokens import Batch, Key

ONWARD_FOR = 20.0  # claims start behind the last one for so many times the extra time of a claim from the front


class Claimer:
    """Makes claims by one statement or, after a refusal, by a detour."""

    def __init__(
        self,
        store: Store,
        telemetry: Telemetry,
        *,
        timings: Timings,
        detour: Detour | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._timings = timings
        self._clock = clock
        self._detour = detour or Detour(store, telemetry, timings=timings)
        self._after: Key | None = None  # the next claim starts behind this token
        self._onward_until = 0.0  # monotonic seconds: then the next claim starts at the front
        self._onward_took = 0.0  # seconds that the last claim that did not start at the front took
        self._aside = False  # the next claim is an ordinary one, between two goes of a detour
        self._more = False  # the last claim may have left tokens

    async def claim(self, slots: int, worker: int) -> Batch:
        """Claim up to `slots` tokens, and say whether there may be more. Raises DatabaseError."""
        backlog, self._more = self._more, False
        batch = await self._claimed(slots, worker, backlog=backlog)
        self._more = batch.more
        return batch

    async def _claimed(self, slots: int, worker: int, *, backlog: bool) -> Batch:
        if self._detour.due and not self._aside:
            return await self._around(slots, worker)
        began = self._clock()
        after = self._after if began < self._onward_until else None
        self._after = None
        place = replace(self._detour.place, fresh=after) if after else self._detour.place
        try:
            batch = await self._store.claim(slots, worker, place)
        except REFUSED:
            if not self._aside:
                self._detour.begin(place)
            return await self._around(slots, worker)
        self._took(began, onward=after is not None)
        around, self._aside = self._aside, False
        full = len(batch.claims) == slots
        if full and backlog:
            self._after = batch.last_fresh
        return replace(batch, more=full or after is not None or around)

    async def _around(self, slots: int, worker: int) -> Batch:
        self._after = None
        batch = await self._detour.claim(slots, worker)
        self._aside = self._detour.leaves_room
        return replace(batch, more=self._detour.more)

    def _took(self, began: float, *, onward: bool) -> None:
        now = self._clock()
        if onward:
            self._onward_took = now - began
        else:
            saved = max(0.0, now - began - self._onward_took)
            self._onward_until = now + min(ONWARD_FOR * saved, self._timings.longest_onward)
