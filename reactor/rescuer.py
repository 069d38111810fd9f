"""Takes over tokens whose holder cannot finish them: dead workers', other programs', and our own lost claims."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from uuid import uuid4

import anyio

from reactor import events
from reactor.backoff import jittered
from reactor.database import REFUSED, ConnectionLostError, DatabaseError
from reactor.keeper import renewal_interval
from reactor.messages import message_of
from reactor.telemetry import Trouble

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from reactor.breaker import Breaker
    from reactor.keeper import Keeper
    from reactor.store import Abandoned, Rescued, Store
    from reactor.telemetry import Telemetry
    from reactor.tokens import Claim

RESCUE_EVERY = 2.5  # seconds; with a renewal interval of 3 and 2 overdue, a token runs again 8 s after its worker died
RESCUE_WITHIN = 15.0  # seconds; above the connection's own limits, which normally end it first
# Seconds after this worker was cut off from the database: who else was has not renewed either, and gets time for it.
# After a restart the query waits as long; a crash of a backend, a promoted standby or a network is none.
STEADY_AFTER = 10.0
MOST_TRIED = 100  # tokens in one pass, if some are refused; slots, where there are more
# Held tokens that one look goes through, in the order of their keys. Fleets rarely hold more. If one does, the next
# look goes on from there, after so many times what this one took.
HELD_AT_ONCE, REST_FOR = 10_000, 20.0
MOST_RESCUES = 5  # a token that was held by this many dead workers may be what kills them


class Rescuer:
    """Looks for abandoned tokens, and starts them again in this worker's free slots."""

    def __init__(  # noqa: PLR0913  (the roles between which it goes)
        self,
        store: Store,
        keeper: Keeper,
        breaker: Breaker,
        telemetry: Telemetry,
        *,
        worker: Callable[[], int],
        start: Callable[[Claim], None],
        claiming: asyncio.Lock,
        lease: float,
    ) -> None:
        self._store = store
        self._keeper = keeper
        self._breaker = breaker
        self._telemetry = telemetry
        self._trouble = Trouble(telemetry, "rescuer")
        self._worker = worker
        self._start = start
        self._claiming = claiming
        self._renewed_every = renewal_interval(lease)
        self._started_at = time.monotonic()
        self._after = uuid4()  # the next look begins behind this key: anywhere, so that workers go for different tokens
        self._rest = RESCUE_EVERY  # seconds until the next pass

    async def run(self) -> None:
        """Take over what nobody can finish, at once and then every RESCUE_EVERY, until cancelled.

        A pass that left something but took nothing over is followed by the next after REST_FOR times what it took.

        Not while a claim is on its way: its tokens would look like ones whose answer was lost. Where every slot is
        taken, no claim begins before this has looked: each freed slot would go to the queue, as long as there is one.
        """
        while True:
            async with self._claiming:
                await self._keeper.freed()
                room = self._breaker.room(self._keeper.free)
                found = await self._pass(room) if room > 0 else False
            if not found:
                await anyio.sleep(jittered(self._rest))

    async def _pass(self, slots: int) -> bool:
        """Take over what fits into the slots; return whether the next pass is due at once."""
        self._rest = RESCUE_EVERY
        worker, began, most = self._worker(), time.monotonic(), max(slots, MOST_TRIED)
        try:
            with anyio.fail_after(RESCUE_WITHIN, shield=True):
                abandoned, last = await self._store.abandoned(
                    most,
                    worker,
                    renewed_every=self._renewed_every,
                    known=self._keeper.known,
                    uptime=time.monotonic() - self._started_at,
                    after=self._after,
                    held=HELD_AT_ONCE,
                )
                more = last is not None or len(abandoned) == most
                if self._store.reach.steady_for < STEADY_AFTER:
                    abandoned = [token for token in abandoned if token.owner == "own"]
                rescued, tried = await self._taken(abandoned, slots, worker)
        except (ConnectionLostError, TimeoutError):
            return False  # the claims, on the same connection, say that it is away
        except DatabaseError as error:
            self._trouble.met(error)
            return False
        self._trouble.passed()
        for token in rescued:
            self._begin(token)
        if recovered := sum(token.owner != "own" for token in rescued):
            self._telemetry.emit(events.WORKER_RECOVERY, count=recovered)
        if tried == len(abandoned) < most:
            self._after = last or uuid4()
        if more:
            self._rest = min(RESCUE_EVERY, REST_FOR * (time.monotonic() - began))
        return bool(rescued)

    async def _taken(self, abandoned: Sequence[Abandoned], slots: int, worker: int) -> tuple[list[Rescued], int]:
        """Take over as many as fit into the slots; return them, and how many were tried."""
        rescued: list[Rescued] = []
        tried = 0
        while tried < len(abandoned) and len(rescued) < slots:
            some = abandoned[tried : tried + slots - len(rescued)]
            rescued += await self._taken_together(some, worker)
            tried += len(some)
            self._after = some[-1].id
        return rescued, tried

    async def _taken_together(self, abandoned: Sequence[Abandoned], worker: int) -> list[Rescued]:
        """Take them over together, or one by one where the table refuses one of them."""
        try:
            return await self._store.rescue(abandoned, worker, most_rescues=MOST_RESCUES)
        except REFUSED as error:
            if len(abandoned) > 1:
                return [rescued for token in abandoned for rescued in await self._taken_together([token], worker)]
            told = {"error_type": error.kind, "error_message": message_of(error)}
            self._telemetry.emit(events.WORKER_ERROR, role="rescuer", **told)
            self._keeper.leave(abandoned[0].id)
            return []

    def _begin(self, token: Rescued) -> None:
        claim = token.claim
        if token.failed is not None:
            told = {"error_type": "PermanentError", "error_message": token.failed, "prediction_id": claim.prediction_id}
            self._telemetry.emit(events.GENERATION_FAILED, token_id=claim.token_id, **told)
            return
        self._telemetry.emit(events.GENERATION_RESCUED, token_id=claim.token_id, prediction_id=claim.prediction_id)
        self._breaker.tries(claim.fence)
        self._start(claim)
