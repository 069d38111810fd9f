"""Keeps a reactor running inside another application: a worker that died is replaced, and the application goes on."""

from __future__ import annotations

import asyncio
import time
import traceback
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from anyio.lowlevel import checkpoint

from reactor import events
from reactor.database.connections import RefusedError
from reactor.database.table import TableError
from reactor.engine.timings import TIMINGS
from reactor.telemetry import Trouble
from reactor.text.messages import first_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from reactor.engine.timings import Timings
    from reactor.engine.worker import Worker
    from reactor.telemetry import Telemetry

STEADY = 60.0  # seconds; the death of a worker that ran this long counts as a first failure


class Supervisor:
    """Runs one worker after another until it is stopped. `between` is awaited after each of them."""

    def __init__(
        self,
        worker: Callable[[], AbstractAsyncContextManager[Worker]],
        telemetry: Telemetry,
        *,
        between: Callable[[], Awaitable[None]] = checkpoint,
        timings: Timings = TIMINGS,
    ) -> None:
        self._next = worker
        self._between = between
        self._timings = timings
        self._telemetry = telemetry
        self._unfit = Trouble(telemetry, "worker")
        self._worker: Worker | None = None
        self._stopped = anyio.Event()
        self.ended = anyio.Event()  # `run` has returned

    def stop(self) -> None:
        """Stop claiming, let attempts finish within the grace, and start no further worker."""
        self._stopped.set()
        if self._worker is not None:
            self._worker.stop()

    async def run(self) -> None:
        """Work until stopped. If it is cancelled, the held tokens are handed back at once."""
        failures = 0
        try:
            while not self._stopped.is_set():
                began = time.monotonic()
                await self._run_once()
                await self._between()
                failures = 0 if time.monotonic() - began > STEADY else failures + 1
                with anyio.move_on_after(self._timings.reconnect_delay(failures)):
                    await self._stopped.wait()
        finally:
            self.ended.set()

    async def _run_once(self) -> None:
        """Run one worker to its end. A table or server that cannot serve is logged once, any other error each time."""
        try:
            async with self._next() as self._worker:
                await self._worker.run()
        except (TableError, RefusedError) as error:
            self._unfit.met(error)
        except Exception as error:  # noqa: BLE001  (no error of a worker may end the application)
            self._unfit.passed()
            kind, place = _place(error)
            self._telemetry.emit(events.WORKER_ERROR, role="worker", error_type=kind, error_message=place)
        finally:
            self._worker = None


@asynccontextmanager
async def beside(supervisor: Supervisor) -> AsyncIterator[None]:
    """Run the supervisor in a task of its own while the body runs.

    It is no task group, because a group would wrap the body's exceptions, and must be left in the task that entered it,
    which test fixtures do not do. If it is cancelled while it stops, the held tokens are handed back at once.
    """
    scope = anyio.CancelScope()

    async def work() -> None:
        with scope:
            await supervisor.run()

    task = asyncio.create_task(work(), name="reactor")
    try:
        yield
    finally:
        supervisor.stop()
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            scope.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.wait([task])
            raise


def _place(error: BaseException) -> tuple[str, str]:
    """The error's class and the place in the code (of a group's first error), but no message: it may show a prompt."""
    error = first_of(error)
    at = traceback.extract_tb(error.__traceback__)[-1]
    return type(error).__name__, f"died in {at.name}, {Path(at.filename).name}:{at.lineno}"
