"""Holds the tokens that this worker works on: a slot for each, and a lease that is renewed.

    claim ──▶ lease ──renewed every third of it, 3 s at most──▶ … ──▶ settled
                │
                └── not renewed ──▶ abandoned ──▶ rescued: same status, epoch + 1, a new holder

A token is abandoned once its lease is over. It is abandoned earlier if its renewal is 2 s overdue and its holder's
liveness lock is free.

The epoch is the fence. Each claim and each rescue raises it, and every write names it. So a holder that was stopped and
comes back changes nothing: its writes match no row. The lease says when another worker may raise the epoch.

The liveness lock only makes a rescue faster. A free lock alone allows no rescue, because a holder that lives and works
loses its lock if its connection ends (a database restart, a terminated backend). A worker whose listener is not proven
holds no liveness lock. It says so by a negative key, and then only its lease counts.

The rescue itself is in rescuer.py.
"""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING

import anyio

from reactor.database.connections import REFUSED, DatabaseError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reactor.database.store import Store
    from reactor.engine.timings import Timings
    from reactor.engine.wake.sweep import Sweep
    from reactor.telemetry import Trouble
    from reactor.tokens import Claim, Key

MOST_LEFT_ALONE = 10_000  # tokens whose rows cannot be written


class Holding:
    """A claim that this worker works on. It occupies a slot until `Leases.free_slot`."""

    def __init__(self, claim: Claim, lease: float) -> None:
        self.claim = claim
        self.lease_ends_at = claim.asked_at + lease  # monotonic seconds; never later than in the database
        self._lost = False
        self._settling = False
        self._over = False
        self._scope: anyio.CancelScope | None = None

    @property
    def lost(self) -> bool:
        """Whether this worker is known to hold the token no longer."""
        return self._lost

    @property
    def over(self) -> bool:
        """Whether the token is known to be settled for good."""
        return self._over

    def begin(self, scope: anyio.CancelScope) -> None:
        """Remember the scope in which the attempt runs, so that `lose` can cancel it."""
        self._scope = scope
        if self._lost:
            scope.cancel()

    def settle(self) -> None:
        """Remember that the outcome is handed in."""
        self._settling = True

    def end(self) -> None:
        """Remember that the token is settled for good: uploading or failed."""
        self._over = True

    def lease_runs(self) -> bool:
        """Whether no other worker can have taken the token over yet."""
        return not self._lost and time.monotonic() < self.lease_ends_at

    def lose(self) -> None:
        """Stop working on a token that this worker holds no longer.

        Once the outcome is handed in this does nothing: a token that was just settled is not held either, and may even
        have been claimed again before the answer arrived here. Then the fence of the settle statement decides.
        """
        if not self._settling:
            self._lost = True
            if self._scope is not None:
                self._scope.cancel()


class Leases:
    """The slots, and the leases of the tokens in them."""

    def __init__(
        self, store: Store, sweep: Sweep, trouble: Trouble, *, slots: int, lease: float, timings: Timings
    ) -> None:
        self._store = store
        self._sweep = sweep
        self._trouble = trouble
        self._slots = slots
        self._lease = lease
        self._timings = timings
        self._held: dict[Key, Holding] = {}
        self._freed = anyio.Event()
        # Tokens that are left alone: until when, in monotonic seconds, and for how many seconds.
        self._left_alone: dict[Key, tuple[float, float]] = {}

    @property
    def free(self) -> int:
        """Slots in which a token could start now."""
        return self._slots - len(self._held)

    @property
    def held(self) -> int:
        """Slots that are taken."""
        return len(self._held)

    @property
    def known(self) -> set[Key]:
        """The tokens in the slots and those that are left alone: this worker must not rescue either."""
        now = time.monotonic()
        return self._held.keys() | {token for token, (until, _) in self._left_alone.items() if until > now}

    def hold(self, claim: Claim) -> Holding:
        """Occupy a slot with a claim. If an earlier claim of this token is still held here, that one is lost."""
        holding = Holding(claim, self._lease)
        if earlier := self._held.get(claim.id):
            earlier.lose()
        self._held[claim.id] = holding
        return holding

    def free_slot(self, holding: Holding) -> None:
        """Free the slot; the dispatcher refills it at once.

        The dispatcher is woken only if the worker was full or the token went back to the queue. If a slot was free
        before, no wake is needed: the last claim found nothing for that slot, or another claim is about to be made.
        """
        if self._held.get(holding.claim.id) is holding:
            was_full = self.free <= 0
            del self._held[holding.claim.id]
            freed, self._freed = self._freed, anyio.Event()
            freed.set()
            if not holding.over:
                self._sweep.token_went_back()
            elif was_full:
                self._sweep.ring()

    async def freed(self) -> None:
        """Return once there is a free slot."""
        while self.free <= 0:
            await self.slot_freed()

    async def slot_freed(self) -> None:
        """Return when the next slot is freed."""
        await self._freed.wait()

    def leave_alone(self, token: Key) -> None:
        """Do not rescue a token whose row cannot be written, for one lease at first, then twice as long each time.

        Beyond MOST_LEFT_ALONE the oldest is forgotten, and so tried again.
        """
        _, before = self._left_alone.pop(token, (0.0, 0.0))
        seconds = max(self._lease, min(2 * before, self._timings.longest_left_alone))
        for oldest in list(islice(self._left_alone, max(0, len(self._left_alone) + 1 - MOST_LEFT_ALONE))):
            del self._left_alone[oldest]
        self._left_alone[token] = time.monotonic() + seconds, seconds

    async def run(self) -> None:
        """Renew all leases at the renewal interval, until cancelled."""
        failures = 0
        while True:
            if failures:
                await self._store.availability.sleep(self._timings.reconnect_delay(failures))
            else:
                await anyio.sleep(self._timings.renewal(self._lease))
            try:
                if self._held:
                    # Give up on a connection that does not answer while there is time for another try.
                    with anyio.fail_after(self._lease / 3):
                        await self._renew(list(self._held.values()))
            except (DatabaseError, TimeoutError) as error:
                failures += 1
                self._trouble.met(error)
            else:
                failures = 0
                self._trouble.passed()

    async def _renew(self, holdings: Sequence[Holding]) -> None:
        sent_at = time.monotonic()
        try:
            held = await self._store.renew([holding.claim for holding in holdings])
        except REFUSED:
            if len(holdings) == 1:
                raise
            await self._renew_apart(holdings)
            return
        for holding in holdings:
            renewed = held.get(holding.claim.id)
            if renewed:
                holding.lease_ends_at = sent_at + self._lease
            elif renewed is None:
                holding.lose()

    async def _renew_apart(self, holdings: Sequence[Holding]) -> None:
        """Renew each half by itself, so that a row that cannot be renewed costs no other token its lease."""
        refused, middle = None, len(holdings) // 2
        for half in (holdings[:middle], holdings[middle:]):
            try:
                await self._renew(half)
            except REFUSED as error:
                refused = error
        if refused is not None:
            raise refused
