"""An answer of the database that all who ask at about the same time share."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Generic, TypeVar

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


class Shared(Generic[T]):
    """An answer that all who ask within `every` seconds share. An error is not shared."""

    def __init__(self, ask: Callable[[], Awaitable[T]], *, every: float) -> None:
        self._ask = ask
        self._every = every
        self._turn = anyio.Lock()
        self._answers: list[T] = []
        self._good_until = 0.0  # monotonic seconds

    async def __call__(self) -> T:
        """Return the answer, at most `every` seconds old."""
        async with self._turn:
            if time.monotonic() >= self._good_until:
                self._answers = [await self._ask()]
                self._good_until = time.monotonic() + self._every
            return self._answers[0]

    def forget(self) -> None:
        """Ask again next time."""
        self._good_until = 0.0
