"""Listens while somebody waits: one task for all of them, begun for the first and ended after the last."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import asyncpg

from reactor.database.connections import LOST, DatabaseError
from reactor.database.table import TableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

AGAIN = 2.0  # seconds after the connection was lost


class Listening:
    """Runs `listen`, which opens a connection and listens until it is lost, again and again while somebody waits.

    `lost` is called after each loss. `lingers`: seconds to go on listening after the last waiter has left.
    """

    def __init__(
        self,
        listen: Callable[[], Awaitable[None]],
        *,
        name: str,
        lingers: float = 0.0,
        lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._listen = listen
        self._name = name
        self._lingers = lingers
        self._lost = lost
        self._waiting = 0
        self._task: asyncio.Task[None] | None = None
        self._leaving: asyncio.TimerHandle | None = None

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """Listen for one who waits, until the context ends."""
        self._waiting += 1
        self._stay()
        if self._task is None or self._task.done():  # the latter: `listen` raised what nobody expected
            # No task group: it ends in the task that entered it. Here one caller starts, and another or a timer stops.
            self._task = asyncio.create_task(self._keep(), name=self._name)
        try:
            yield
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._leave()

    def stop(self) -> None:
        """Stop at once, whoever waits."""
        self._stay()
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def _stay(self) -> None:
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None

    def _leave(self) -> None:
        if self._lingers and self._task is not None:
            self._leaving = asyncio.get_running_loop().call_later(self._lingers, self.stop)
        else:
            self.stop()

    async def _keep(self) -> None:
        while True:
            with suppress(DatabaseError, TableError, asyncpg.PostgresError, *LOST):
                await self._listen()
            self._lost()
            await asyncio.sleep(AGAIN)
