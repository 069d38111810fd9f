"""Removes old entries of the history in small steps, so that no transaction is long and autovacuum keeps up.

Every worker looks once a minute, at random moments; a look that finds nothing old costs one search of an index. There
is no leader: of two workers that prune at once, the second waits a moment, and finds less to remove.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from reactor.backoff import jittered
from reactor.database.connections import DatabaseError

if TYPE_CHECKING:
    from reactor.database.store import Store
    from reactor.engine.timings import Timings
    from reactor.telemetry import Trouble

AT_ONCE = 500  # entries; 20 times what a fleet at 600 creates a minute adds in the pause between two steps


class Pruner:
    """Keeps entries for `days` days; 0: no history is written, and what is there stays."""

    def __init__(self, store: Store, trouble: Trouble, *, days: int, timings: Timings) -> None:
        self._store = store
        self._trouble = trouble
        self._days = days
        self._timings = timings

    async def run(self) -> None:
        """Prune until cancelled."""
        while self._days:
            more = await self._step()
            await anyio.sleep(self._timings.prune_pause if more else jittered(self._timings.prune_every))

    async def _step(self) -> bool:
        """Remove some entries; return whether there may be more."""
        try:
            pruned = await self._store.prune_history(self._days, AT_ONCE)
        except DatabaseError as error:
            self._trouble.met(error)
            return False
        self._trouble.passed()
        return pruned == AT_ONCE
