"""The reactor as a library: on its own, or beside somebody else's application."""

from __future__ import annotations

import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio

from reactor.logs import HostLog
from reactor.providers.replicate import ReplicateProvider
from reactor.redaction import Redactor
from reactor.settings import Settings
from reactor.table import TableError
from reactor.telemetry import Telemetry
from reactor.worker import Worker, obey_signals

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from reactor.telemetry import Sink


async def run(settings: Settings, *, drain: bool = False, log: Sink | None = None) -> None:
    """Run the reactor until it is cancelled or, in the main thread, gets SIGTERM or SIGINT.

    With `drain`, until no token is detected or generating. Events go to `log`, by default the `reactor` logger of the
    standard library. Raises TableError where the database lacks our migrations; a database that is away is waited for.
    """
    try:
        async with _worker(settings, log) as worker, anyio.create_task_group() as group:
            if threading.current_thread() is threading.main_thread():
                group.start_soon(obey_signals, worker)
            await worker.run(drain=drain)
            group.cancel_scope.cancel()
    except ExceptionGroup as group_of_one:
        if (unfit := group_of_one.subgroup(TableError)) is not None:
            raise unfit.exceptions[0] from None  # a user's mistake, not a crash among tasks
        raise


@asynccontextmanager
async def lifespan(_app: Any) -> AsyncIterator[None]:
    """Run the reactor as long as an ASGI application: `FastAPI(lifespan=reactor.lifespan)`.

    Reads the environment, takes no signals, opens no port, and leaves the host's logging alone. What is held when the
    application stops gets SHUTDOWN_GRACE_SECONDS, then is handed back. Raises SettingsError.
    """
    async with _worker(Settings.load(), None) as worker, anyio.create_task_group() as group:
        group.start_soon(worker.run)
        yield
        worker.stop()


@asynccontextmanager
async def _worker(settings: Settings, log: Sink | None) -> AsyncIterator[Worker]:
    redact = Redactor(settings.secrets())
    provider = ReplicateProvider(
        settings.replicate_api_token.get_secret_value(),
        model=settings.replicate_model_version,
        base_url=settings.replicate_base_url,
        model_input=settings.replicate_model_input,
        seed_input=settings.replicate_seed_input,
    )
    try:
        yield Worker(settings, provider, Telemetry(log or HostLog(redact)), redact)
    finally:
        with anyio.move_on_after(1.0, shield=True):
            await provider.aclose()
