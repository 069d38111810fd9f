"""Keeps what this worker holds: leases renewed, and dead workers' tokens taken over.

    claim ──▶ lease ──renewed every third of it, 3 s at most──▶ … ──▶ settled
                │
                └── not renewed: 2 s overdue and the holder's liveness lock free, or the lease over
                        └──▶ rescued: same status, epoch + 1, a new holder

The lease decides, the lock only accelerates. A lock is lost with its connection while its holder lives and works (a
database restart, a terminated backend), so a free lock alone rescues nothing; and a holder that was stopped and comes
back finds the epoch raised: whatever it writes matches no row. The epoch is the fence, the lease only says when
somebody else may raise it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio

from reactor.backoff import jittered, reconnect_delay
from reactor.database import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from reactor.store import Store
    from reactor.telemetry import Telemetry, Trouble
    from reactor.tokens import Claim
    from reactor.wake import Wake

RESCUE_EVERY = 2.5  # seconds; with a renewal interval of 3 and 2 overdue, a token runs again 8 s after its worker died
RESCUE_WITHIN = 15.0  # seconds; above the connection's own limits, which normally end it first
MOST_RESCUES = 5  # a token that was held by this many dead workers may be what kills them


def renewal_interval(lease: float) -> float:
    """Seconds between renewals of a lease of `lease` seconds."""
    return min(lease / 3, 3.0)


class Holding:
    """A claim that this worker works on; occupies a slot until it is let go."""

    def __init__(self, claim: Claim, lease: float) -> None:
        self.claim = claim
        self.lease_ends_at = claim.asked_at + lease  # monotonic seconds: earlier than the database's, never later
        self.lost = False
        self.settling = False  # its outcome is handed in
        self.scope = anyio.CancelScope()

    def lease_runs(self) -> bool:
        """Whether nobody can have taken the token over yet."""
        return not self.lost and time.monotonic() < self.lease_ends_at

    def lose(self) -> None:
        """Stop working on a token that is somebody else's now.

        Not once its outcome is handed in: a token that was settled is not held either, and may even have been claimed
        again before the answer got here. There the settle's fence decides.
        """
        if not self.settling:
            self.lost = True
            self.scope.cancel()


class Keeper:
    """The slots, and the leases of what is in them."""

    def __init__(self, store: Store, telemetry: Telemetry, wake: Wake, *, slots: int, lease: float) -> None:
        self._store = store
        self._telemetry = telemetry
        self._wake = wake
        self._slots = slots
        self._lease = lease
        self._held: dict[UUID, Holding] = {}

    @property
    def free(self) -> int:
        """Slots in which a token could start now."""
        return self._slots - len(self._held)

    @property
    def held(self) -> list[UUID]:
        """Ids of the tokens in the slots."""
        return list(self._held)

    def hold(self, claim: Claim) -> Holding:
        """Occupy a slot with a claim. A claim of a token that is still held here replaces a lost one."""
        holding = Holding(claim, self._lease)
        if earlier := self._held.get(claim.id):
            earlier.lose()
        self._held[claim.id] = holding
        return holding

    def let_go(self, holding: Holding) -> None:
        """Free the slot; the dispatcher refills it at once."""
        if self._held.get(holding.claim.id) is holding:
            del self._held[holding.claim.id]
            self._wake.ring()

    async def renew(self, trouble: Trouble) -> None:
        """Renew all leases at the renewal interval, until cancelled."""
        failures = 0
        while True:
            await anyio.sleep(reconnect_delay(failures) if failures else renewal_interval(self._lease))
            try:
                await self._renew_all()
            except DatabaseError as error:
                failures += 1
                trouble.met(error)
            else:
                failures = 0
                trouble.passed()

    async def _renew_all(self) -> None:
        holdings = list(self._held.values())
        if not holdings:
            return
        sent_at = time.monotonic()
        still_held = await self._store.renew([holding.claim for holding in holdings])
        for holding in holdings:
            if holding.claim.id in still_held:
                holding.lease_ends_at = sent_at + self._lease
            else:
                holding.lose()

    async def rescue(self, worker: Callable[[], int], start: Callable[[Claim], None], claiming: anyio.Lock) -> None:
        """Take over what nobody can finish, at once and then every RESCUE_EVERY, until cancelled.

        Not while a claim is on its way: its tokens would look like ones whose answer was lost.
        """
        started_at = time.monotonic()
        while True:
            async with claiming:
                if self.free > 0:
                    await self._rescue_some(worker(), start, uptime=time.monotonic() - started_at)
            await anyio.sleep(jittered(RESCUE_EVERY))

    async def _rescue_some(self, worker: int, start: Callable[[Claim], None], *, uptime: float) -> None:
        try:
            with anyio.fail_after(RESCUE_WITHIN, shield=True):
                rescued = await self._store.rescue(
                    self.free,
                    worker,
                    renewed_every=renewal_interval(self._lease),
                    held=self.held,
                    uptime=uptime,
                    most_rescues=MOST_RESCUES,
                )
        except (DatabaseError, TimeoutError):
            return  # the claims, on the same connection, say that it is away
        for claim in rescued.claims:
            self._telemetry.emit("token.generation.rescued", token_id=claim.token_id, prediction_id=claim.prediction_id)
            start(claim)
        for token_id, reason in rescued.failed:
            self._telemetry.emit(
                "token.generation.failed", token_id=token_id, error_type="PermanentError", error_message=reason
            )
        if rescued.recovered:
            self._telemetry.emit("worker.recovery", count=rescued.recovered)
