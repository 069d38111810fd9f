"""Claims tokens and starts them while there are more, then waits for a wake."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio
from anyio.lowlevel import checkpoint

from reactor import events
from reactor.database.connections import DatabaseError
from reactor.telemetry import Trouble

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from reactor.engine.claim.claimer import Claimer
    from reactor.engine.claim.idle import Idle
    from reactor.engine.wake.wake import Wake
    from reactor.telemetry import Telemetry
    from reactor.tokens import Batch, Claim

LARGEST_CLAIM = 50  # tokens; more wait for the next claim, which is already under way while these start


class Dispatcher:
    """Keeps every slot busy as long as there is something to claim.

    `room` returns how many tokens may start now, `worker` the worker's key, under which it claims; `start` begins an
    attempt.
    """

    def __init__(
        self,
        claimer: Claimer,
        idle: Idle,
        telemetry: Telemetry,
        *,
        wake: Wake,
        room: Callable[[], int],
        worker: Callable[[], int],
        start: Callable[[Claim, str | None], None],
        claiming: asyncio.Lock,
    ) -> None:
        self._claimer = claimer
        self._idle = idle
        self._telemetry = telemetry
        self._trouble = Trouble(telemetry, "dispatcher")
        self._wake = wake
        self._room = room
        self._worker = worker
        self._start = start
        self._claiming = claiming
        self._stopping = False

    async def run(self) -> None:
        """Claim and start until cancelled.

        The loop is shielded, because a claim that is cut short may have been committed, and then nobody knows its
        tokens. A second task notices the cancellation and ends the loop before the next claim.
        """
        async with anyio.create_task_group() as group:
            group.start_soon(self._notice_a_stop)
            await checkpoint()  # if it is cancelled already, nothing is claimed
            with anyio.CancelScope(shield=True):
                await self._dispatch()

    async def _notice_a_stop(self) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            self._stopping = True
            self._idle.stop()

    async def _dispatch(self) -> None:
        """Claim as long as there is more, then wait for a wake. Here a wake becomes a claim."""
        while not self._stopping:
            self._wake.clear()
            if not await self._claim():
                await self._idle.until_worth_a_claim()

    async def _claim(self) -> bool:
        """Claim tokens for the free slots, LARGEST_CLAIM at most, and start them; return whether there may be more."""
        if self._room() <= 0:
            return False  # and do not wait for the lock: a rescuer that waits for a slot may hold it
        async with self._claiming:
            room = min(self._room(), LARGEST_CLAIM)  # asked again, because a rescue may just have taken slots
            return room > 0 and not self._stopping and await self._claim_for(room)

    async def _claim_for(self, room: int) -> bool:
        began = time.monotonic()
        try:
            batch = await self._claimer.claim(room, self._worker())
        except DatabaseError as error:
            self._trouble.met(error)
            self._idle.failed()
            return False
        self._told(batch, room, time.monotonic() - began)
        for claim in batch.claims:
            self._start(claim, batch.probe_of(claim))
        if batch.claims and len(batch.claims) < room:
            await checkpoint()  # the attempts run first, so that their requests leave
        self._trouble.passed()
        self._idle.found(batch)
        return batch.more

    def _told(self, batch: Batch, room: int, seconds: float) -> None:
        """Emit the claim before its attempts begin."""
        claimed = [claim.token_id for claim in batch.claims]
        self._telemetry.emit(
            events.TOKENS_CLAIMED, count=len(claimed), slots=room, token_ids=claimed, duration_seconds=round(seconds, 6)
        )
