"""The results that were handed in, and for which the database has not answered yet."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Generic, TypeVar

from reactor.tokens import Bought, Outcome

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

    from reactor.database.connections import HostRefusedError, RowRefusedError
    from reactor.database.rows import Answer
    from reactor.tokens import Claim, Key

LARGEST_BATCH = 200  # entries in a statement; keeps each row lock short

T = TypeVar("T", Outcome, Bought)


class Entry(Generic[T]):
    """A result that was handed in."""

    __slots__ = ("alone", "answer", "answered", "due_at", "failures", "item", "logged", "refusals")

    def __init__(self, item: T, answered: asyncio.Event | None) -> None:
        self.item: T = item
        self.alone = False  # it was refused together with others, so it is tried by itself
        self.failures = 0
        self.refusals = 0  # of this entry by itself
        self.logged = False  # whether its error was logged
        self.due_at = 0.0  # monotonic seconds
        self.answered = answered
        self.answer: Answer | RowRefusedError | HostRefusedError = "lost"

    def put_off(self, seconds: float) -> None:
        """Try again in so many seconds."""
        self.failures += 1
        self.due_at = time.monotonic() + seconds


class Unsettled(Generic[T]):
    """The entries, by the fence of their claim: a token may be claimed anew before its entry is answered."""

    def __init__(self) -> None:
        self._entries: dict[tuple[Key, int], Entry[T]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, item: T, answered: asyncio.Event | None = None) -> Entry[T]:
        """Hand in a result; it replaces an earlier one of the same claim. `answered` is set with the answer."""
        entry = self._entries[item.claim.fence] = Entry(item, answered)
        return entry

    def forget(self, claim: Claim) -> None:
        """Drop the entry of a claim, if there is one."""
        self._entries.pop(claim.fence, None)

    def answer(self, entry: Entry[T], answer: Answer | RowRefusedError | HostRefusedError) -> None:
        """Remove an entry, and give the answer to the attempt that waits for it."""
        if self._entries.get(entry.item.claim.fence) is entry:
            self.forget(entry.item.claim)
        entry.answer = answer
        if entry.answered is not None:
            entry.answered.set()

    @property
    def due_at(self) -> float:
        """When the next entry is due, in monotonic seconds; infinity if there is none."""
        return min((entry.due_at for entry in self._entries.values()), default=float("inf"))

    def batches(self) -> Iterator[list[Entry[T]]]:
        """The entries that are due, oldest first: many together, then one of those that are tried alone."""
        now = time.monotonic()
        due = [entry for entry in self._entries.values() if entry.due_at <= now]
        if together := [entry for entry in due if not entry.alone][:LARGEST_BATCH]:
            yield together
        if alone := [entry for entry in due if entry.alone][:1]:
            yield alone
