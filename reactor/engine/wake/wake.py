"""The event that wakes the dispatcher. However often it rings between two claims, it is one wake."""

import asyncio


class Wake:
    """Rung by the bell, the sweep and the gate. `Idle` waits for it on behalf of the dispatcher.

    The listener uses a second `Wake` for its probes.
    """

    def __init__(self) -> None:
        self._rung = asyncio.Event()  # unlike anyio's, it can be cleared

    def ring(self) -> None:
        """Wake the waiter now, or the next one at once. Safe in any callback of the loop."""
        self._rung.set()

    def clear(self) -> None:
        """Forget earlier rings. Call it *before* a claim, so that a ring during the claim is not lost."""
        self._rung.clear()

    async def wait(self) -> None:
        """Return once it has rung since the last clear."""
        await self._rung.wait()
