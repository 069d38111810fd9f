"""Slows the answers to wrong tokens. A request with a right token never waits, so nobody can be locked out.

All clients share one count, because addresses are cheap. Whoever mistypes a token waits as an attacker does, at most
LONGEST. Few wait at once, because each keeps one of the port's connections; the others are answered at once. So this
slows a simple guesser, and only a long random token stops one with many connections.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

COUNTED_FOR = 60.0  # seconds for which a wrong token is counted
STEP = 0.05  # seconds for each that is counted
LONGEST = 0.5  # seconds: a probe that carries an old token is still answered within its second
MOST_WAITING = 8


class WrongTokens:
    """Counts the wrong tokens of the last minute. `sleep` waits so many seconds."""

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._met_at: deque[float] = deque(maxlen=round(LONGEST / STEP))
        self._waiting = 0

    async def met(self) -> None:
        """Count a wrong token, and wait before it is answered; do not wait if MOST_WAITING wait already."""
        now = self._clock()
        self._met_at.append(now)
        if self._waiting >= MOST_WAITING:
            return
        self._waiting += 1
        try:
            await self._sleep(STEP * sum(now - each < COUNTED_FOR for each in self._met_at))
        finally:
            self._waiting -= 1
