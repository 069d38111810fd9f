"""Looks at the gate every 10 s, checks a refused API token again, and at the start checks the model.

The first look also opens the gate if a smaller DAILY_BUDGET than this worker's closed it: the operator has raised it,
and has restarted the worker. Later looks do not, so that workers with different budgets do not open and close the gate
all day. If a worker with the smaller budget closes the gate again, its own restart opens it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from reactor.backoff import jittered
from reactor.database.connections import ConnectionLostError, DatabaseError
from reactor.errors import GenerationError, TransientError
from reactor.telemetry import Trouble

if TYPE_CHECKING:
    from reactor.engine.gate.announcer import Announcer
    from reactor.engine.gate.gate_store import GateStore
    from reactor.engine.wake.wake import Wake
    from reactor.providers import Provider
    from reactor.telemetry import Telemetry


class Inspector:
    """A loop beside the attempts."""

    def __init__(
        self,
        store: GateStore,
        provider: Provider,
        announcer: Announcer,
        telemetry: Telemetry,
        wake: Wake,
        *,
        every: float,
        budget: int,
    ) -> None:
        self._store = store
        self._provider = provider
        self._announcer = announcer
        self._wake = wake
        self._every = every
        self._budget = budget  # creates of a UTC day; 0: no limit
        self._looked = False
        self._trouble = Trouble(telemetry, "intake")
        self._unfit = Trouble(telemetry, "provider")

    async def run(self) -> None:
        """Look every few seconds, until cancelled."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._check)  # nothing waits for it: the first create may be sent meanwhile
            while True:
                await self._look()
                await anyio.sleep(jittered(self._every))

    async def _look(self) -> None:
        try:
            state = await self._store.state()
            if state["paused"] and not self._looked and await self._raise():
                state = await self._store.state()
            self._looked = True
            if not state["paused"]:
                self._announcer.opened()
            else:
                self._announcer.closed(state["resumes_in"], state["reason"] or "", state["opens_on"])
                if await self._store.due(state) and await self._check():
                    await self._reopen(state["reason"])
        except ConnectionLostError:
            await anyio.lowlevel.checkpoint()  # the claims log that the database is away
        except DatabaseError as error:
            self._trouble.met(error)
        else:
            self._trouble.passed()

    async def _raise(self) -> bool:
        """Lift the pause of a spent budget that is smaller than this worker's; return whether the gate's row changed.

        A worker without a budget opens nothing: perhaps somebody forgot to set it.
        """
        raised = await self._store.raise_budget(self._budget) if self._budget else None
        if raised is None:
            return False
        if raised.opened:
            self._announcer.raised(raised.reason, budget=self._budget, bought=raised.bought)
        self._wake.ring()
        return True

    async def _check(self) -> bool:
        """Return whether the account and the model may be used; log one line if they certainly may not."""
        try:
            await self._provider.check()
        except TransientError:
            return False  # it is not known
        except GenerationError as error:
            self._unfit.met(error)
            return False
        self._unfit.passed()
        return True

    async def _reopen(self, reason: str) -> None:
        if await self._store.open("check", reason):
            self._announcer.opened()
            self._wake.ring()
