"""Finds abandoned tokens, and takes them over into this worker's free slots.

A token is abandoned if it is `generating` and its holder cannot finish it.

The holder of such a token is one of three:

    dead     a worker that died: leases.py says when a worker counts as dead
    foreign  another program, which left no lease, or one longer than any worker's
    own      this worker: the answer to its claim was lost

The query abandoned.sql finds these tokens, and rescue.sql takes them over. Every worker runs a rescuer; there is no
leader.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import anyio

from reactor import events
from reactor.backoff import jittered
from reactor.database.connections import REFUSED, ConnectionLostError, DatabaseError
from reactor.telemetry import Trouble
from reactor.text.messages import message_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from reactor.database.connections import HostRefusedError, RowRefusedError
    from reactor.database.rows import Abandoned, Rescued
    from reactor.database.store import Store
    from reactor.engine.leases import Leases
    from reactor.engine.timings import Timings
    from reactor.telemetry import Telemetry
    from reactor.tokens import Claim, Key

# Tokens that one pass looks for at least, so that a few refused ones do not hide the others.
MOST_TRIED = 100
# Held tokens that one look goes through, in the order of their keys. Fleets rarely hold more. If one does, the next
# look goes on from there, after WAIT_FOR times as long as this pass took, rescue_every at most.
HELD_AT_ONCE, WAIT_FOR = 10_000, 20.0
MOST_RESCUES = 5  # then the token fails: if so many workers died with it, it may be what kills them


class Rescuer:
    """Looks for abandoned tokens, and starts them again in this worker's free slots."""

    def __init__(
        self,
        store: Store,
        leases: Leases,
        telemetry: Telemetry,
        *,
        room: Callable[[], int],
        worker: Callable[[], int],
        start: Callable[[Claim], None],
        claiming: asyncio.Lock,
        lease: float,
        timings: Timings,
    ) -> None:
        self._store = store
        self._leases = leases
        self._telemetry = telemetry
        self._trouble = Trouble(telemetry, "rescuer")
        self._room = room
        self._worker = worker
        self._start = start
        self._claiming = claiming
        self._timings = timings
        self._renewed_every = timings.renewal(lease)
        self._started_at = time.monotonic()
        # The next look begins behind this key. It is random, so that workers try different tokens.
        self._after = store.table.random_key()
        self._next_in = timings.rescue_every  # seconds until the next pass

    async def run(self) -> None:
        """Take over abandoned tokens, at once and then every few seconds, until cancelled.

        If a pass took some over, the next follows at once. If it took none over but has not seen all, the next follows
        after WAIT_FOR times as long as the pass took, rescue_every at most.
        """
        while True:
            if not await self._pass():
                await anyio.sleep(jittered(self._next_in))

    async def _pass(self) -> bool:
        """Look, and take over what fits into the slots; return whether the next pass is due at once.

        Claims go on during the look. While the answer to a claim is on its way, its tokens look abandoned. So tokens
        are taken over only while no claim is under way: by then the answer has come, and such a token is in a slot of
        this worker, or its epoch has changed.
        """
        self._next_in = self._timings.rescue_every
        began, most = time.monotonic(), max(self._leases.free, MOST_TRIED)
        try:
            abandoned, last = await self._look(most)
            more = last is not None or len(abandoned) == most
            if self._store.availability.steady_for < self._timings.steady_after:
                abandoned = [token for token in abandoned if token.owner == "own"]
            taken, tried = await self._take_over(abandoned)
        except (ConnectionLostError, TimeoutError):
            return False  # the listener says that the database is away
        except DatabaseError as error:
            self._trouble.met(error)
            return False
        self._trouble.passed()
        if tried == len(abandoned) < most:
            self._after = self._store.table.random_key() if last is None else last
        if more:
            self._next_in = min(self._next_in, WAIT_FOR * (time.monotonic() - began))
        return taken > 0

    async def _look(self, most: int) -> tuple[list[Abandoned], Key | None]:
        with anyio.fail_after(self._timings.rescue_within):
            return await self._store.abandoned(
                most,
                self._worker(),
                renewed_every=self._renewed_every,
                known=self._leases.known,
                uptime=time.monotonic() - self._started_at,
                after=self._after,
                held=HELD_AT_ONCE,
            )

    async def _take_over(self, abandoned: Sequence[Abandoned]) -> tuple[int, int]:
        """Take over as many tokens as fit into the slots; return how many were taken over, and how many were tried.

        After a refusal each statement takes fewer, at last one. Between two statements a claim may be made.
        """
        taken = tried = 0
        together = len(abandoned)
        while tried < len(abandoned):
            async with self._claiming:
                if not taken:
                    await self._slot()
                room = self._room()
                some = abandoned[tried : tried + min(together, room)]
                if not some:
                    break
                try:
                    taken += await self._rescue(some)
                except REFUSED as error:
                    together = max(1, len(some) // 2)
                    if len(some) > 1:
                        continue
                    self._leave_alone(some[0], error)
                else:
                    together = 2 * len(some)
            tried += len(some)
            self._after = some[-1].id
        return taken, tried

    async def _slot(self) -> None:
        """If all slots are taken, wait for one and keep it for an abandoned token: claims wait meanwhile.

        The wait ends when it is time for another look.
        """
        with anyio.move_on_after(self._timings.rescue_every) as wait:
            await self._leases.freed()
        if wait.cancelled_caught:
            self._next_in = 0.0

    async def _rescue(self, tokens: Sequence[Abandoned]) -> int:
        """Take over and start the tokens that this worker does not hold yet; return how many it took over."""
        known = self._leases.known
        unknown = [token for token in tokens if token.id not in known]
        if not unknown:
            return 0
        with anyio.fail_after(self._timings.rescue_within, shield=True):
            rescued = await self._store.rescue(unknown, self._worker(), most_rescues=MOST_RESCUES)
        for token in rescued:
            self._begin(token)
        if recovered := sum(token.owner != "own" for token in rescued):
            self._telemetry.emit(events.WORKER_RECOVERY, count=recovered)
        return len(rescued)

    def _leave_alone(self, token: Abandoned, error: HostRefusedError | RowRefusedError) -> None:
        """Do not try a token again soon that the database refuses to let us take over."""
        fields = {"error_type": error.kind, "error_message": message_of(error)}
        self._telemetry.emit(events.WORKER_ERROR, role="rescuer", **fields)
        self._leases.leave_alone(token.id)

    def _begin(self, token: Rescued) -> None:
        claim = token.claim
        if token.failed is not None:
            error = {"error_type": "PermanentError", "error_message": token.failed}
            fields = error | {"prediction_id": claim.prediction_id}
            self._telemetry.emit(events.GENERATION_FAILED, token_id=claim.token_id, **fields)
            if claim.prediction_id is not None:
                bought = {"token_id": claim.token_id, "prediction_id": claim.prediction_id}
                self._telemetry.emit(events.PURCHASE_ENDED, outcome="failed", images=None, **bought)
            return
        rescued: dict[str, Any] = {"epoch": claim.epoch, "prediction_id": claim.prediction_id}
        self._telemetry.emit(events.GENERATION_RESCUED, token_id=claim.token_id, **rescued)
        self._start(claim)
