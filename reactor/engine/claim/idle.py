"""What the dispatcher does between two claims: it waits until the next one is worth its cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from reactor.database.availability import Availability
    from reactor.engine.gate.breaker import Breaker
    from reactor.engine.leases import Leases
    from reactor.engine.timings import Timings
    from reactor.engine.wake.bell import Bell
    from reactor.engine.wake.sweep import Sweep
    from reactor.engine.wake.wake import Wake
    from reactor.tokens import Batch


class Idle:
    """Remembers how the last claims went, and waits until the next one is worth its cost."""

    def __init__(
        self,
        *,
        wake: Wake,
        bell: Bell,
        sweep: Sweep,
        leases: Leases,
        breaker: Breaker,
        availability: Availability,
        timings: Timings,
    ) -> None:
        self._wake = wake
        self._bell = bell
        self._sweep = sweep
        self._leases = leases
        self._breaker = breaker
        self._availability = availability
        self._timings = timings
        self._failures = 0  # of claims in a row
        self._empty = 0  # claims in a row that found nothing
        self._held_back = False  # the gate held tokens back, and nobody knows for how long
        self._stopping = False
        self._pause = anyio.CancelScope()

    def found(self, batch: Batch) -> None:
        """Remember a claim that was answered."""
        self._failures = 0
        self._empty = 0 if batch.claims or batch.more else self._empty + 1
        self._held_back = batch.held_back

    def failed(self) -> None:
        """Remember a claim that failed because of the database."""
        self._failures += 1

    def stop(self) -> None:
        """End the wait now: no more claims are made."""
        self._stopping = True
        self._wake.ring()
        self._pause.cancel()

    async def until_worth_a_claim(self) -> None:
        """Wait for a mint, a freed slot or a due time, or until the database or the provider is back."""
        if self._stopping:
            return
        resting = self._breaker.resting
        waits = not (self._failures or resting)
        self._bell.want(("watch" if self._leases.free > 0 else "quiet") if waits else "nothing")
        if self._failures:
            with anyio.CancelScope() as self._pause:
                await self._availability.sleep(self._timings.reconnect_delay(self._failures))
        elif resting:
            with anyio.move_on_after(resting):  # a create that is accepted ends the rest, and rings
                await self._wake.wait()
        else:
            await self._until_rung()

    async def _until_rung(self) -> None:
        if self._leases.free > 0:
            self._sweep.ask(empty=self._empty, held_back=self._held_back)
            if self._empty:
                with anyio.CancelScope() as self._pause:
                    await anyio.sleep(self._timings.after_empty)
        await self._wake.wait()
