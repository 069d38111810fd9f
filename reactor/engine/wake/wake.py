"""A bell that says only "look". However often it rings between two looks, it is one wake."""

import asyncio


class Wake:
    """Rung by the listener, by freed slots and by timers; heard by the dispatcher alone."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()  # which, unlike anyio's, can be cleared

    def ring(self) -> None:
        """Wake the waiter now, or the next one at once. Safe in any callback of the loop."""
        self._rung.set()

    def clear(self) -> None:
        """Forget earlier rings. Done *before* looking, so that a ring during the look is not lost."""
        self._rung.clear()

    async def wait(self) -> None:
        """Return once it has rung since the last clear."""
        await self._rung.wait()
