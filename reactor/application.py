"""The reactor as a library: on its own, or inside another application."""

from __future__ import annotations

import threading
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from reactor.database.session import Session
from reactor.database.store import Store
from reactor.database.table import TableError
from reactor.engine.health import Health
from reactor.engine.timings import TIMINGS
from reactor.engine.worker import Worker, obey_signals
from reactor.logs import HostLog
from reactor.providers.replicate import ReplicateProvider
from reactor.settings import Settings, SettingsError
from reactor.supervisor import Supervisor, beside
from reactor.telemetry import Telemetry
from reactor.text.redaction import Redactor
from reactor.web import Refusals, application, connection_limit, serve
from reactor.web.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from reactor.engine.timings import Timings
    from reactor.telemetry import Sink


async def run(
    settings: Settings,
    *,
    drain: bool = False,
    log: Sink | None = None,
    timings: Timings = TIMINGS,
    store: type[Store] = Store,
) -> None:
    """Run the reactor until it is cancelled or, in the main thread, gets SIGTERM or SIGINT.

    With `drain`, it also ends once no token is detected or generating. Health and metrics are served on HTTP_PORT from
    the start, before the database is reached, to the end. Events go to `log`, by default the standard library's logger
    `reactor`. Raises TableError if the database is not migrated. Waits for a database that cannot be reached.
    """
    redact = Redactor(settings.secrets())
    try:
        async with _health(settings, timings) as health:
            metrics = Metrics()
            telemetry = Telemetry(log or HostLog(redact), metrics, health)
            async with (
                _worker(settings, telemetry, redact, health, timings=timings, store=store) as worker,
                anyio.create_task_group() as group,
            ):
                if threading.current_thread() is threading.main_thread():
                    group.start_soon(obey_signals, worker)
                if settings.http_port:
                    group.start_soon(_serve, settings, health, metrics, telemetry)
                await worker.run(drain=drain)
                group.cancel_scope.cancel()
    except ExceptionGroup as group_of_one:
        if (unfit := group_of_one.subgroup(TableError)) is not None:
            raise unfit.exceptions[0] from None  # a user's mistake, not a crash among tasks
        raise


@asynccontextmanager
async def lifespan(_app: Any) -> AsyncIterator[None]:
    """Run the reactor while an ASGI application runs: `FastAPI(lifespan=reactor.lifespan)`.

    Or inside a lifespan of your own: `async with reactor.lifespan(app): yield`. It reads the environment, handles no
    signals, opens no port, and does not configure logging. The reactor begins once the table is migrated, and begins
    again if it dies. When the application stops, attempts get SHUTDOWN_GRACE_SECONDS, then their tokens are handed
    back. Raises SettingsError.
    """
    settings = _settings()
    redact = Redactor(settings.secrets())
    telemetry = Telemetry(HostLog(redact))
    async with beside(Supervisor(partial(_worker, settings, telemetry, redact), telemetry)):
        yield


def _settings() -> Settings:
    """Raises SettingsError with all problems on one line, because servers show only the last line of a traceback."""
    try:
        return Settings.load()
    except SettingsError as error:
        raise SettingsError(["; ".join(error.problems)]) from None


@asynccontextmanager
async def _worker(
    settings: Settings,
    telemetry: Telemetry,
    redact: Redactor,
    health: Health | None = None,
    *,
    timings: Timings = TIMINGS,
    store: type[Store] = Store,
) -> AsyncIterator[Worker]:
    provider = ReplicateProvider(
        settings.replicate_api_token.get_secret_value(),
        model=settings.replicate_model_version,
        base_url=settings.replicate_base_url,
        api_prefix=settings.replicate_api_prefix,
        model_input=settings.replicate_model_input,
        seed_input=settings.replicate_seed_input,
        cancel_after=settings.generation_timeout_seconds + settings.lease_seconds,
    )
    try:
        yield Worker(settings, provider, telemetry, redact, health=health, timings=timings, store=store)
    finally:
        with anyio.move_on_after(1.0, shield=True):
            await provider.aclose()


@asynccontextmanager
async def _health(settings: Settings, timings: Timings) -> AsyncIterator[Health]:
    pooled = settings.listen_database_url is not None
    dsn = settings.database_url.get_secret_value()
    session = Session(dsn, name="reactor health", pooled=pooled, writes=True, timings=timings.connections)
    try:
        yield Health(session, settings.tokens_table, slots=settings.worker_batch_size, timings=timings)
    finally:
        with anyio.move_on_after(1.0, shield=True):
            await session.aclose()


async def _serve(settings: Settings, health: Health, metrics: Metrics, telemetry: Telemetry) -> None:
    token = settings.http_token.get_secret_value() if settings.http_token is not None else None
    refusals, host = Refusals(telemetry), settings.http_host
    pages = application(health, metrics, refusals, token=token, host=host)
    most = connection_limit(settings.worker_batch_size)
    await serve(pages, refusals, host=host, port=settings.http_port, most=most)
