"""Writes what attempts hand in: prediction ids while they run, outcomes when they end.

One flush is under way at a time, and everything that arrives meanwhile goes together into the next. So a single outcome
never waits, and a thousand at once cost a few round trips.

Each entry is kept until the database has answered *won*, *already* or *lost*. If the answer to a write is lost the
write is repeated. That is safe, because the statements are fenced by the epoch, and answer a repeat with *already*. If
another session has locked the row, the write is repeated a little later. If a batch is refused, its entries are tried
one by one. So neither a locked nor a refused row holds up others. An entry that is refused by itself is given up: at
once if the row is at fault, after a few tries if it may be a function of the host's.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import anyio

from reactor import events
from reactor.backoff import locked_delay
from reactor.database.connections import REFUSED, ConnectionLostError, DatabaseError, RowRefusedError
from reactor.engine.settle.unsettled import Unsettled
from reactor.engine.settle.unwritable import MOST_REFUSALS, replacement_for
from reactor.telemetry import Trouble
from reactor.text.messages import message_of
from reactor.tokens import Bought, Outcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from reactor.database.rows import Answer, Intent
    from reactor.database.store import Store
    from reactor.engine.settle.unsettled import Entry
    from reactor.engine.timings import Timings
    from reactor.telemetry import Telemetry
    from reactor.tokens import Key, Rejected

MOST_RECORDED = 10_000  # purchases; one whose token this worker never settles stays here

T = TypeVar("T", Outcome, Bought)


class Settler:
    """The only writer of prediction ids and outcomes in this worker."""

    def __init__(self, store: Store, telemetry: Telemetry, *, max_attempts: int, timings: Timings) -> None:
        self._store = store
        self._max_attempts = max_attempts
        self._timings = timings
        self._telemetry = telemetry
        self._trouble = Trouble(telemetry, "settler")
        self._failures = 0
        self._outcomes: Unsettled[Outcome] = Unsettled()
        self._bought: Unsettled[Bought] = Unsettled()
        self._recorded: dict[tuple[Key, int], str] = {}  # prediction ids in the rows, by the fence of their claim
        self._arrived = anyio.Event()
        self._idle = anyio.Event()

    async def settle(self, outcome: Outcome) -> Outcome | None:
        """Write an outcome, however long the database is away. Return what was written; None if the token was lost.

        If the database refuses the outcome its replacement is written, see unwritable.py. Raises RowRefusedError or
        HostRefusedError if that is refused too.
        If cancelled it still waits a little for the answer. Without one, the outcome is written later.
        """
        try:
            return await self._answered(outcome)
        except REFUSED as error:
            fields = {"error_type": error.kind, "error_message": message_of(error)}
            claim, bought = outcome.claim, outcome.prediction_id
            self._telemetry.emit(
                events.WORKER_ERROR, role="settler", token_id=claim.token_id, prediction_id=bought, **fields
            )
            replacement = replacement_for(outcome, error, max_attempts=self._max_attempts, timings=self._timings)
            if replacement is None:
                raise
            return await self._answered(replacement)

    async def _answered(self, outcome: Outcome) -> Outcome | None:
        answered = asyncio.Event()  # takes an eighth of the time of an anyio event to make
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

    def tell(self, outcome: Outcome) -> None:
        """Have an attempt whose token was lost written into the history. Does not wait for it."""
        self._outcomes.add(outcome)
        self._bought.forget(outcome.claim)
        self._arrived.set()

    def record(self, bought: Bought) -> None:
        """Have a prediction id written soon. Does not wait for it."""
        self._bought.add(bought)
        self._arrived.set()

    async def censor(self, rejected: Rejected) -> Intent | None:
        """Write a new intent to buy, with the fallback prompt, until the database answers; None if the token was lost.

        Raises RowRefusedError and HostRefusedError at the first refusal: the caller counts them.
        """
        self._bought.forget(rejected.claim)  # its prediction is over
        failures = 0
        while True:
            try:
                intent = await self._store.censor(rejected)
            except REFUSED:
                raise
            except DatabaseError as trouble:
                self._trouble.met(trouble)
                await self._store.availability.sleep(self._timings.reconnect_delay(failures))
            else:
                if intent != "locked":
                    return intent
                await anyio.sleep(locked_delay(failures))
            failures += 1

    async def run(self) -> None:
        """Flush the entries that are due, until cancelled."""
        while True:
            due_at = min(self._outcomes.due_at, self._bought.due_at)
            with anyio.move_on_after(due_at - time.monotonic()):
                await self._arrived.wait()
            self._arrived = anyio.Event()
            for bought in self._bought.batches():
                await self._flush(self._bought, bought, self._write_bought)
            for outcomes in self._outcomes.batches():
                await self._flush(self._outcomes, outcomes, self._write_outcomes)
            self._idle.set()

    async def drained(self) -> None:
        """Return once nothing is left to write. `run` must be running."""
        while self._outcomes or self._bought:
            self._idle = anyio.Event()
            await self._idle.wait()

    async def _write_bought(self, bought: list[Bought]) -> list[Answer]:
        answers = await self._store.record(bought)
        for each, answer in zip(bought, answers, strict=True):
            if answer == "won":
                self._recorded[each.claim.fence] = each.prediction_id
        while len(self._recorded) > MOST_RECORDED:
            del self._recorded[next(iter(self._recorded))]
        return answers

    async def _write_outcomes(self, outcomes: list[Outcome]) -> list[Answer]:
        answers = await self._store.settle([self._with_record(outcome) for outcome in outcomes])
        for outcome, answer in zip(outcomes, answers, strict=True):
            if answer != "locked":
                self._recorded.pop(outcome.claim.fence, None)
        return answers

    def _with_record(self, outcome: Outcome) -> Outcome:
        """Note on the receipt that the purchase was recorded: then the budget does not count it again after a loss."""
        bought = self._recorded.get(outcome.claim.fence)
        if bought is None or bought != outcome.prediction_id:
            return outcome
        return replace(outcome, receipt=replace(outcome.receipt, recorded=True))

    async def _flush(
        self, unsettled: Unsettled[T], batch: Sequence[Entry[T]], write: Callable[[list[T]], Awaitable[list[Answer]]]
    ) -> None:
        try:
            answers = await write([entry.item for entry in batch])
        except ConnectionLostError as error:
            self._trouble.met(error)
            await self._store.availability.sleep(self._timings.reconnect_delay(self._failures))
            self._failures += 1
            return
        except DatabaseError as error:  # it is certain that nothing was written
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
        """Try the entries of a refused batch one by one; one that is refused by itself gets the error as its answer."""
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
        if not entry.logged:
            entry.logged = True
            self._trouble.met(error)
        entry.put_off(self._timings.reconnect_delay(entry.failures))
