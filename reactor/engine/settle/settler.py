"""Writes what came of the attempts: prediction ids while they run, outcomes when they end.

Natural batching: one flush is under way at a time, and what arrives meanwhile goes together in the next. An outcome
alone never waits, and a thousand at once cost a few round trips.

A write whose answer was lost is repeated: the statements are fenced by the epoch, and tell a repeat (*already*) from a
loss. Whatever is handed in is kept until the database has answered *won*, *already* or *lost*. A row that somebody else
has locked is asked for again a little later; what was refused together is tried one by one. Neither holds up another.
What is refused alone is given up: at once if the row is at fault, after a few tries if it may be the host's function.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TypeVar

import anyio

from reactor import events
from reactor.backoff import locked_delay, reconnect_delay
from reactor.database.connections import REFUSED, ConnectionLostError, DatabaseError, RowRefusedError
from reactor.engine.settle.unsettled import Unsettled
from reactor.engine.settle.unwritable import MOST_REFUSALS, instead
from reactor.telemetry import Trouble
from reactor.text.messages import message_of
from reactor.tokens import Bought, Outcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from reactor.database.store import Answer, Intent, Store
    from reactor.engine.settle.unsettled import Entry
    from reactor.engine.timings import Timings
    from reactor.telemetry import Telemetry
    from reactor.tokens import Claim

T = TypeVar("T", Outcome, Bought)


class Settler:
    """One writer for everything that this worker tells the tokens table about its tokens."""

    def __init__(self, store: Store, telemetry: Telemetry, *, max_attempts: int, timings: Timings) -> None:
        self._store = store
        self._max_attempts = max_attempts
        self._timings = timings
        self._telemetry = telemetry
        self._trouble = Trouble(telemetry, "settler")
        self._failures = 0
        self._outcomes: Unsettled[Outcome] = Unsettled()
        self._bought: Unsettled[Bought] = Unsettled()
        self._arrived = anyio.Event()
        self._idle = anyio.Event()

    async def settle(self, outcome: Outcome) -> Outcome | None:
        """Return what was written, however long the database is away; None where the token was lost.

        That is the outcome, or what is written where it is refused. Raises RowRefusedError or HostRefusedError where
        not even that could be written.
        Cancelled, it still waits for an answer that is on its way; where none comes, it is written later.
        """
        try:
            return await self._answered(outcome)
        except REFUSED as error:
            told = {"error_type": error.kind, "error_message": message_of(error)}
            claim, bought = outcome.claim, outcome.prediction_id
            self._telemetry.emit(
                events.WORKER_ERROR, role="settler", token_id=claim.token_id, prediction_id=bought, **told
            )
            other = instead(outcome, error, max_attempts=self._max_attempts, timings=self._timings)
            if other is None:
                raise
            return await self._answered(other)

    async def _answered(self, outcome: Outcome) -> Outcome | None:
        answered = asyncio.Event()  # made in an eighth of anyio's time
        entry = self._outcomes.add(outcome, answered)
        self._bought.forget(outcome.claim)  # settling carries the prediction id too
        self._arrived.set()
        try:
            await answered.wait()
        except anyio.get_cancelled_exc_class():
            with anyio.move_on_after(self._timings.answer_within, shield=True):
                await answered.wait()
            if not answered.is_set():
                raise
        if isinstance(entry.answer, REFUSED):
            raise entry.answer
        return None if entry.answer == "lost" else outcome

    def record(self, bought: Bought) -> None:
        """Write down soon what was bought; delays nothing."""
        self._bought.add(bought)
        self._arrived.set()

    async def censor(self, claim: Claim, attempts: int, error: str) -> Intent | None:
        """Turn to the fallback prompt, repeating until the database has spoken; None where the token was lost.

        Raises RowRefusedError, and HostRefusedError at once: the caller counts.
        """
        self._bought.forget(claim)  # what was bought for the rejected prompt is over
        failures = 0
        while True:
            try:
                intent = await self._store.censor(claim, attempts, error)
            except REFUSED:
                raise
            except DatabaseError as trouble:
                self._trouble.met(trouble)
                await self._store.availability.sleep(reconnect_delay(failures))
            else:
                if intent != "locked":
                    return intent
                await anyio.sleep(locked_delay(failures))
            failures += 1

    async def run(self) -> None:
        """Flush whatever is due, until cancelled."""
        while True:
            due_at = min(self._outcomes.due_at, self._bought.due_at)
            with anyio.move_on_after(due_at - time.monotonic()):
                await self._arrived.wait()
            self._arrived = anyio.Event()
            for bought in self._bought.batches():
                await self._flush(self._bought, bought, self._store.record)
            for outcomes in self._outcomes.batches():
                await self._flush(self._outcomes, outcomes, self._store.settle)
            self._idle.set()

    async def drained(self) -> None:
        """Return once nothing is left to write. `run` must be running."""
        while self._outcomes or self._bought:
            self._idle = anyio.Event()
            await self._idle.wait()

    async def _flush(
        self, unsettled: Unsettled[T], batch: Sequence[Entry[T]], write: Callable[[list[T]], Awaitable[list[Answer]]]
    ) -> None:
        try:
            answers = await write([entry.item for entry in batch])
        except ConnectionLostError as error:
            self._trouble.met(error)
            await self._store.availability.sleep(reconnect_delay(self._failures))
            self._failures += 1
            return
        except DatabaseError as error:  # certainly nothing was written
            self._refused(unsettled, batch, error)
            return
        self._failures = 0
        self._trouble.passed()
        for entry, answer in zip(batch, answers, strict=True):
            if answer == "locked":
                entry.put_off(locked_delay(entry.failures))
            else:
                unsettled.answer(entry, answer)

    def _refused(self, unsettled: Unsettled[T], batch: Sequence[Entry[T]], error: DatabaseError) -> None:
        """Try one by one what was refused together; of one that is refused for itself, tell whoever handed it in."""
        if len(batch) > 1:
            for entry in batch:
                entry.alone = True
            return
        (entry,) = batch
        if isinstance(error, REFUSED):
            entry.refusals += MOST_REFUSALS if isinstance(error, RowRefusedError) else 1
            if entry.refusals >= MOST_REFUSALS:
                unsettled.answer(entry, error)
                return
        if not entry.told:
            entry.told = True
            self._trouble.met(error)
        entry.put_off(reconnect_delay(entry.failures))
