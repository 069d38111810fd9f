"""Rings for what nobody else rings for: a retry that is due, a pause that ends, a mint whose NOTIFY was missed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from reactor.backoff import jittered, reconnect_delay
from reactor.database import DatabaseError

if TYPE_CHECKING:
    from reactor.store import Store
    from reactor.telemetry import Trouble
    from reactor.wake import Wake

SHORTEST = 0.01  # seconds; what is due but stays locked by somebody else is not asked for in a spin,
LONGEST = 1.0  # seconds, but ever more rarely


class Sweep:
    """Asks what is due next, beside the dispatcher: a wake that comes meanwhile does not wait for the answer."""

    def __init__(self, store: Store, wake: Wake, trouble: Trouble, *, every: float) -> None:
        self._store = store
        self._wake = wake
        self._trouble = trouble
        self._every = every
        self._failures = 0
        self._empty = 0
        self._asked = anyio.Event()
        self.asked = False  # it is going to ring

    def ask(self, *, empty: int) -> None:
        """Ring when a claim could find something, at the next sweep at the latest; `empty` claims found nothing."""
        self._empty = empty
        self.asked = True
        self._asked.set()

    async def run(self) -> None:
        """Ring once for each time that it was asked to, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked = anyio.Event()
            with anyio.move_on_after(await self._until_due()):
                await self._asked.wait()
                continue
            self.asked = False
            self._wake.ring()

    async def _until_due(self) -> float:
        try:
            due_in = await self._store.next_due()
        except DatabaseError as error:
            self._trouble.met(error)
            self._failures += 1
            return reconnect_delay(self._failures)
        self._trouble.passed()
        self._failures = 0
        sweep = jittered(self._every)
        if due_in is None:
            return sweep
        spin = min(SHORTEST * 2 ** min(self._empty, 10), LONGEST) if self._empty else 0.0
        return min(max(due_in, spin), sweep)
