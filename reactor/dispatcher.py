"""Wait, claim, start, repeat."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from reactor.backoff import reconnect_delay
from reactor.claimer import Claimer
from reactor.database import DatabaseError
from reactor.telemetry import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable

    from reactor.bell import Bell
    from reactor.breaker import Breaker
    from reactor.keeper import Keeper
    from reactor.store import Store
    from reactor.sweep import Sweep
    from reactor.telemetry import Telemetry
    from reactor.tokens import Claim
    from reactor.wake import Wake

CLAIM_WITHIN = 15.0  # seconds; above the connection's own limits, which normally end a claim first
DRAIN_LOOK = 1.0  # seconds between looks whether all is done
AFTER_EMPTY = 0.01  # seconds between an empty claim and the next that a wake asks for: forged NOTIFYs cost no more


class Dispatcher:
    """Keeps every slot busy as long as there is something to claim."""

    def __init__(  # noqa: PLR0913  (the roles between which it dispatches)
        self,
        store: Store,
        keeper: Keeper,
        breaker: Breaker,
        telemetry: Telemetry,
        *,
        wake: Wake,
        bell: Bell,
        sweep: Sweep,
        worker: Callable[[], int],
        start: Callable[[Claim], None],
        claiming: anyio.Lock,
    ) -> None:
        self._store = store
        self._keeper = keeper
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
        self._more = False  # tokens may wait for a time that is not known

    async def run(self) -> None:
        """Claim and start until cancelled."""
        while True:
            await checkpoint_if_cancelled()  # the claim is shielded: whoever was cancelled before it does not begin one
            self._wake.clear()
            if await self._claim():
                continue
            await self._rest()

    async def drain(self) -> None:
        """Claim and start until no token is detected or generating anywhere."""
        self._keeper.draining = True
        while True:
            await checkpoint_if_cancelled()
            self._wake.clear()
            if await self._claim():
                continue
            if not self._keeper.held and not await self._unfinished():
                return
            with anyio.move_on_after(DRAIN_LOOK):  # nobody rings for what another worker finished
                await self._rest()

    async def _claim(self) -> bool:
        """Claim as many tokens as there are free slots, and start them; return whether there may be more.

        Shielded: a claim that is cut short may have been committed, and then nobody knows its tokens.
        """
        async with self._claiming:
            with anyio.move_on_after(CLAIM_WITHIN, shield=True):
                return await self._claim_some()
        return False

    async def _claim_some(self) -> bool:
        """Claim what there is room for; under the lock and the shield of `_claim`."""
        room = self._breaker.room(self._keeper.free)  # only now: a rescue may just have taken slots
        if room <= 0:
            return False
        try:
            claims = await self._claimer.claim(room, self._worker())
        except DatabaseError as error:
            self._trouble.met(error)
            self._failures += 1
            return False
        for claim in claims:
            self._breaker.tries(claim.fence)
            self._start(claim)
        self._trouble.passed()
        self._failures = 0
        self._empty = 0 if claims else self._empty + 1
        self._more = any(claim.limited or claim.probe for claim in claims)
        self._telemetry.emit("tokens.claimed", count=len(claims), slots=room)
        return len(claims) == room or self._claimer.broke_off

    async def _rest(self) -> None:
        """Sleep until a wake: a mint, a freed slot, or what the sweep rings for."""
        if self._failures:
            self._bell.want("nothing")
            await self._store.reach.sleep(reconnect_delay(self._failures))
            return
        if resting := self._breaker.resting:
            self._bell.want("nothing")
            with anyio.move_on_after(resting):  # a create that is accepted ends the rest, and rings
                await self._wake.wait()
            return
        self._bell.want("watch" if self._keeper.free > 0 else "quiet")
        if self._keeper.free > 0:
            self._ask()
            if self._empty:
                await anyio.sleep(AFTER_EMPTY)
        await self._wake.wait()

    def _ask(self) -> None:
        """Have the sweep find out when to ring next, unless nothing has changed: a mint by itself costs one claim."""
        if self._empty or self._more or self._keeper.went_back or not self._sweep.asked:
            self._keeper.went_back = False
            self._sweep.ask(empty=self._empty)

    async def _unfinished(self) -> bool:
        try:
            return await self._store.unfinished()
        except DatabaseError as error:
            self._trouble.met(error)
            return True
