"""Whether the database can be reached, as far as one worker knows: what one of its connections finds out, all know.

Each role tries again on a backoff of its own, so that of several one soon finds the database back; the others then do
not wait theirs out. Rung only by an answer after a loss, not by a connection: what accepts connections and serves no
statement would be tried in a spin.
"""

from __future__ import annotations

import time

import anyio


class Availability:
    """What the connections of one worker tell each other."""

    def __init__(self) -> None:
        self._back = anyio.Event()
        self._unsteady_at = float("-inf")  # monotonic seconds

    @property
    def steady_for(self) -> float:
        """Seconds since a connection was last lost, or answered again after that; infinity where none ever was."""
        return time.monotonic() - self._unsteady_at

    def lost(self) -> None:
        """A connection was lost, or could not be made."""
        self._unsteady_at = time.monotonic()

    def back(self) -> None:
        """A statement was answered where the one before was not."""
        self._unsteady_at = time.monotonic()
        back, self._back = self._back, anyio.Event()
        back.set()

    async def sleep(self, seconds: float) -> None:
        """Sleep, but no longer than until the database is back."""
        with anyio.move_on_after(seconds):
            await self._back.wait()
