"""Rings the wake for retries that are due, for pauses that end, and for mints whose NOTIFY was missed."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import anyio

from reactor.backoff import jittered
from reactor.database.connections import DatabaseError

if TYPE_CHECKING:
    from reactor.database.store import Store
    from reactor.engine.timings import Timings
    from reactor.engine.wake.wake import Wake
    from reactor.telemetry import Trouble


class Sweep:
    """Asks the database when the next token is due, and rings at that time.

    It runs beside the dispatcher, so that a wake does not wait for the answer. While nothing is due, only this cheap
    question is repeated, and no claim is made.
    """

    def __init__(self, store: Store, wake: Wake, trouble: Trouble, *, every: float, timings: Timings) -> None:
        self._store = store
        self._wake = wake
        self._trouble = trouble
        self._every = every
        self._timings = timings
        self._failures = 0
        self._empty = 0  # claims in a row that found nothing
        self._asked = anyio.Event()
        self._look_at = inf
        self._pause = anyio.CancelScope()
        self._holds = False  # the last answer still holds: the sweep is going to ring early enough

    def ask(self, *, empty: int, held_back: bool) -> None:
        """Have the sweep ring when a claim could find something.

        The database is not asked again while the last answer holds, so that a single mint costs one claim and no more.
        The answer does not hold if the last `empty` claims found nothing, the gate held tokens back, or a token went
        back to the queue.
        """
        if empty or held_back or not self._holds:
            self._ask(empty)

    def token_went_back(self) -> None:
        """Ring, because a token went back to the queue. It may be due before the time that is known."""
        self._holds = False
        self.ring()

    def ring(self) -> None:
        """Have the dispatcher claim now."""
        self._wake.ring()

    def _ask(self, empty: int) -> None:
        self._empty = empty
        self._holds = True
        self._asked.set()

    def look_within(self, seconds: float) -> None:
        """Ask the database again after so many seconds at the latest, if the sweep is waiting for a due time."""
        self._look_at = min(self._look_at, anyio.current_time() + seconds)
        self._pause.deadline = min(self._pause.deadline, self._look_at)

    async def run(self) -> None:
        """Ring once for each call of `ask`, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked = anyio.Event()
            self._look_at = anyio.current_time() + jittered(self._every)
            due_at = anyio.current_time() + await self._due_in()
            with anyio.CancelScope(deadline=min(due_at, self._look_at)) as self._pause:
                await self._asked.wait()
                continue
            if anyio.current_time() < due_at:
                self._ask(empty=0)
            else:
                self._holds = False
                self._wake.ring()

    async def _due_in(self) -> float:
        """Seconds until the sweep has to ring; infinite if no token has a known due time."""
        try:
            due_in = await self._store.next_due()
        except DatabaseError as error:
            self._trouble.met(error)
            self._failures += 1
            return self._timings.reconnect_delay(self._failures)
        self._trouble.passed()
        self._failures = 0
        if due_in is None:
            return inf
        if self._empty and due_in <= 0:
            self._store.availability.doubt()
        return max(due_in, self._spin())

    def _spin(self) -> float:
        """Seconds to wait although a token is due: if the last claims did not find it, it is locked."""
        if not self._empty:
            return 0.0
        return min(self._timings.shortest_spin * 2.0 ** min(self._empty, 10), self._timings.longest_spin)
