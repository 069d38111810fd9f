"""Whether the database can be reached, shared by the connections of one worker.

Each connection retries on a backoff of its own, so one of them soon finds the database back. Then the others retry at
once. Only an answered statement wakes them, not an opened connection, because a server that accepts connections and
serves no statement would be retried in a spin.
"""

from __future__ import annotations

import time

import anyio


class Availability:
    """The state that the connections of one worker share."""

    def __init__(self) -> None:
        self._back = anyio.Event()
        self._unsteady_at = float("-inf")  # monotonic seconds
        self._in_doubt = anyio.Event()
        self._denied: str | None = None

    @property
    def steady_for(self) -> float:
        """Seconds since a connection was last lost, or answered again after a loss; infinity if none was ever lost."""
        return time.monotonic() - self._unsteady_at

    def lost(self) -> None:
        """A connection was lost, or could not be made."""
        self._unsteady_at = time.monotonic()

    def back(self) -> None:
        """A statement was answered, after a connection was lost."""
        self._unsteady_at = time.monotonic()
        back, self._back = self._back, anyio.Event()
        back.set()

    def doubt(self, denied: str | None = None) -> None:
        """The role may lack a right: a statement was `denied`, or found nothing although a token is due."""
        self._denied = denied or self._denied
        self._in_doubt.set()

    async def doubted(self, seconds: float) -> str | None:
        """Wait so many seconds, or until `doubt` is called, or was since the last wait; return what was denied."""
        with anyio.move_on_after(seconds):
            await self._in_doubt.wait()
        denied, self._denied, self._in_doubt = self._denied, None, anyio.Event()
        return denied

    async def sleep(self, seconds: float) -> None:
        """Sleep for so long, or until the database is back."""
        with anyio.move_on_after(seconds):
            await self._back.wait()
