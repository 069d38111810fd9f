"""Looks at the gate every 10 s, checks a refused API token again, and at the start checks the model."""

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
    ) -> None:
        self._store = store
        self._provider = provider
        self._announcer = announcer
        self._wake = wake
        self._every = every
        self._trouble = Trouble(telemetry, "intake")
        self._unfit = Trouble(telemetry, "provider")

    async def run(self) -> None:
        """Look every few seconds, until cancelled."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._check)  # nobody waits for it: the first create may leave meanwhile
            while True:
                await self._look()
                await anyio.sleep(jittered(self._every))

    async def _look(self) -> None:
        try:
            state = await self._store.state()
            if not state["paused"]:
                self._announcer.opened()
            else:
                self._announcer.closed(state["resumes_in"], state["reason"] or "", state["opens_on"])
                if self._store.checks.due(state) and await self._check():
                    await self._reopen(state["reason"])
        except ConnectionLostError:
            await anyio.lowlevel.checkpoint()  # the claims log that the database is away
        except DatabaseError as error:
            self._trouble.met(error)
        else:
            self._trouble.passed()

    async def _check(self) -> bool:
        """Return whether the account and the model may be used; log one line if they certainly may not."""
        try:
            await self._provider.check()
        except TransientError:
            return False  # unknown
        except GenerationError as error:
            self._unfit.met(error)
            return False
        self._unfit.passed()
        return True

    async def _reopen(self, reason: str) -> None:
        if await self._store.open("check", reason):
            self._announcer.opened()
            self._wake.ring()
