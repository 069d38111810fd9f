"""Wait, claim, start, repeat."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
from anyio.lowlevel import checkpoint

from reactor import events
from reactor.backoff import reconnect_delay
from reactor.database.connections import DatabaseError
from reactor.engine.claim.claimer import Claimer
from reactor.telemetry import Trouble

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from reactor.database.store import Store
    from reactor.engine.gate.breaker import Breaker
    from reactor.engine.leases import Leases
    from reactor.engine.wake.bell import Bell
    from reactor.engine.wake.sweep import Sweep
    from reactor.engine.wake.wake import Wake
    from reactor.telemetry import Telemetry
    from reactor.tokens import Claim

LARGEST_CLAIM = 50  # tokens at once: the next claim is under way while these start
AFTER_EMPTY = 0.01  # seconds between an empty claim and the next that a wake asks for: forged NOTIFYs cost no more


class Dispatcher:
    """Keeps every slot busy as long as there is something to claim."""

    def __init__(  # noqa: PLR0913  (the roles between which it dispatches)
        self,
        store: Store,
        leases: Leases,
        breaker: Breaker,
        telemetry: Telemetry,
        *,
        wake: Wake,
        bell: Bell,
        sweep: Sweep,
        worker: Callable[[], int],
        start: Callable[[Claim, str | None], None],
        claiming: asyncio.Lock,
    ) -> None:
        self._store = store
        self._leases = leases
        self._wake = wake
        self._bell = bell
        self._sweep = sweep
        self._breaker = breaker
        self._telemetry = telemetry
        self._trouble = Trouble(telemetry, "dispatcher")
        self._claimer = Claimer(store, telemetry)
        self._worker = worker
        self._start = start
        self._claiming = claiming
        self._failures = 0
        self._empty = 0
        self._stopping = False
        self._pause = anyio.CancelScope()
        self._held_back = False  # by the gate: tokens wait for a time that is not known

    async def run(self) -> None:
        """Claim and start until cancelled.

        Shielded: a claim that is cut short may have been committed, and then nobody knows its tokens. That it was
        cancelled is noticed beside it, and ends it before the next claim.
        """
        async with anyio.create_task_group() as group:
            group.start_soon(self._notice)
            await checkpoint()  # cancelled already: nothing is claimed
            with anyio.CancelScope(shield=True):
                await self._dispatch()

    async def _notice(self) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            self._stopping = True
            self._wake.ring()
            self._pause.cancel()

    async def _dispatch(self) -> None:
        while not self._stopping:
            self._wake.clear()
            if not await self._claim():
                await self._wait()

    async def _claim(self) -> bool:
        """Claim tokens for the free slots, LARGEST_CLAIM at most, and start them; return whether there may be more."""
        if self._room <= 0:
            return False  # a rescuer that waits for a slot has the turn
        async with self._claiming:
            return not self._stopping and await self._claim_some()

    @property
    def _room(self) -> int:
        """How many tokens a claim may take."""
        return min(self._breaker.room(self._leases.free), LARGEST_CLAIM)

    async def _claim_some(self) -> bool:
        room = self._room  # only now: a rescue may just have taken slots
        if room <= 0:
            return False
        try:
            batch = await self._claimer.claim(room, self._worker())
        except DatabaseError as error:
            self._trouble.met(error)
            self._failures += 1
            return False
        for claim in batch.claims:
            self._breaker.tries(claim.fence)
            self._start(claim, batch.probe_of(claim))
        if batch.claims and len(batch.claims) < room:
            await checkpoint()  # theirs is the next turn: requests leave first
        self._trouble.passed()
        self._failures = 0
        self._empty = 0 if batch.claims or batch.more else self._empty + 1
        self._held_back = batch.held_back
        self._telemetry.emit(events.TOKENS_CLAIMED, count=len(batch.claims), slots=room)
        return batch.more

    async def _wait(self) -> None:
        """Sleep until a wake: a mint, a freed slot, or what the sweep rings for."""
        if self._stopping:
            return
        if self._failures:
            self._bell.want("nothing")
            with anyio.CancelScope() as self._pause:  # that a stop ends
                await self._store.availability.sleep(reconnect_delay(self._failures))
            return
        if resting := self._breaker.resting:
            self._bell.want("nothing")
            with anyio.move_on_after(resting):  # a create that is accepted ends the rest, and rings
                await self._wake.wait()
            return
        self._bell.want("watch" if self._leases.free > 0 else "quiet")
        if self._leases.free > 0:
            self._sweep.ask(empty=self._empty, held_back=self._held_back)
            if self._empty:
                with anyio.CancelScope() as self._pause:
                    await anyio.sleep(AFTER_EMPTY)
        await self._wake.wait()
