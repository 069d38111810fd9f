"""Writes what came of the attempts: prediction ids while they run, outcomes when they end.

Natural batching: one flush is under way at a time, and what arrives meanwhile goes together in the next. An outcome
alone never waits, and a thousand at once cost a few round trips.

A write whose answer was lost is repeated: the statements are fenced by the epoch, and tell a repeat (*already*) from a
loss. Whatever is handed in is kept until the database has answered *won*, *already* or *lost*.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import anyio

from reactor.backoff import reconnect_delay
from reactor.database import DatabaseError, RowRefusedError
from reactor.tokens import Failed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from uuid import UUID

    from asyncpg import Record

    from reactor.store import Answer, Store
    from reactor.telemetry import Trouble
    from reactor.tokens import Claim, Outcome

T = TypeVar("T")
LARGEST_BATCH = 200  # outcomes a statement; keeps any one row lock short


class _Pending:
    """An outcome and, once the database has spoken, its answer."""

    __slots__ = ("answer", "answered", "outcome")

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.answered = anyio.Event()
        self.answer: Answer = "lost"

    def tell(self, answer: Answer) -> None:
        self.answer = answer
        self.answered.set()


class Settler:
    """One writer for everything that this worker tells the tokens table about its tokens."""

    def __init__(self, store: Store, trouble: Trouble) -> None:
        self._store = store
        self._trouble = trouble
        self._outcomes: list[_Pending] = []
        self._bought: dict[UUID, tuple[Claim, str]] = {}
        self._arrived = anyio.Event()
        self._idle = anyio.Event()
        self._writing = False

    async def settle(self, outcome: Outcome) -> Outcome | None:
        """Return what was written, however long the database is away; None where the token was lost.

        That is the outcome, or the failure to store it. Cancelled, it is still written later.
        """
        pending = _Pending(outcome)
        self._outcomes.append(pending)
        self._bought.pop(outcome.claim.id, None)  # settling carries the prediction id too
        self._arrived.set()
        await pending.answered.wait()
        return None if pending.answer == "lost" else pending.outcome

    def record(self, claim: Claim, prediction_id: str) -> None:
        """Write down soon what was bought; delays nothing."""
        self._bought[claim.id] = claim, prediction_id
        self._arrived.set()

    async def censor(self, claim: Claim, attempts: int, error: str) -> Record | None:
        """Turn to the fallback prompt, repeating until the database has spoken; None where the token was lost."""
        self._bought.pop(claim.id, None)  # what was bought for the rejected prompt is over
        return await self._written(lambda: self._store.censor(claim, attempts, error))

    async def run(self) -> None:
        """Flush whatever arrives, until cancelled."""
        while True:
            await self._arrived.wait()
            self._arrived = anyio.Event()
            self._writing = True
            while self._outcomes or self._bought:
                await self._flush()
            self._writing = False
            self._idle.set()

    async def drained(self) -> None:
        """Return once nothing is left to write. `run` must be running."""
        while self._outcomes or self._bought or self._writing:
            self._idle = anyio.Event()
            await self._idle.wait()

    async def _flush(self) -> None:
        bought, self._bought = list(self._bought.values()), {}
        batch, self._outcomes = self._outcomes[:LARGEST_BATCH], self._outcomes[LARGEST_BATCH:]
        if bought:
            with suppress(RowRefusedError):  # settling carries the id again, and answers for it
                await self._written(lambda: self._store.record(bought))
        if batch:
            await self._settle(batch)

    async def _settle(self, batch: Sequence[_Pending]) -> None:
        try:
            answers = await self._written(lambda: self._store.settle([pending.outcome for pending in batch]))
        except RowRefusedError as error:
            await self._settle_refused(batch, error)
            return
        for pending, answer in zip(batch, answers, strict=True):
            pending.tell(answer)

    async def _settle_refused(self, batch: Sequence[_Pending], error: RowRefusedError) -> None:
        """Settle one by one what was refused together; fail the token whose own row is at fault."""
        if len(batch) > 1:
            for pending in batch:
                await self._settle([pending])
            return
        (pending,) = batch
        self._trouble.met(error)
        outcome = pending.outcome
        reason = f"The database refused the result ({error.kind})"
        refused = Failed(outcome.claim, reason, "PermanentError", outcome.claim.attempts, None)
        if isinstance(outcome, Failed) and outcome.error == reason:
            pending.tell("lost")  # nothing can be written about this token: its lease will run out
            return
        pending.outcome = refused
        await self._settle([pending])

    async def _written(self, write: Callable[[], Awaitable[T]]) -> T:
        failures = 0
        while True:
            try:
                result = await write()
            except RowRefusedError:
                raise
            except DatabaseError as error:
                self._trouble.met(error)
                await anyio.sleep(reconnect_delay(failures))
                failures += 1
            else:
                self._trouble.passed()
                return result
