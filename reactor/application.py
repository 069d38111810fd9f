"""The reactor on its own: `run`. Inside another application it is `embedding.py`."""

from __future__ import annotations

import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from reactor.database.connections import RefusedError
from reactor.database.session import Session
from reactor.database.store import Store
from reactor.database.table import TableError
from reactor.engine.health import Health
from reactor.engine.timings import TIMINGS
from reactor.engine.worker import Worker, obey_signals
from reactor.logs import HostLog
from reactor.otel import OpenTelemetry, opentelemetry
from reactor.providers.replicate import ReplicateProvider
from reactor.telemetry import Telemetry
from reactor.text.messages import first_of
from reactor.web import Keys, Refusals, Site, application, connection_limit, serve
from reactor.web.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from reactor.engine.timings import Timings
    from reactor.settings import Settings
    from reactor.systemd import ServiceManager
    from reactor.telemetry import Sink
    from reactor.text.redaction import Redactor


async def run(
    settings: Settings,
    *,
    drain: bool = False,
    log: Sink | None = None,
    timings: Timings = TIMINGS,
    store: type[Store] = Store,
    manager: ServiceManager | None = None,
) -> None:
    """Run the reactor until it is cancelled or, in the main thread, gets SIGTERM or SIGINT.

    With `drain`, it also ends once no token is detected or generating. Health and metrics are served on HTTP_PORT from
    the start, before the database is reached, to the end. Events go to `log`, by default the standard library's logger
    `reactor`. Raises TableError if the database is not migrated, and RefusedError if it can never serve us as
    it is. Waits for a database that cannot be reached, and for one that refuses the password. Reports to `manager`:
    see systemd.py.
    """
    redact = settings.redact
    try:
        async with health_of(settings, timings) as health:
            metrics = Metrics(price_per_image=settings.price_per_image)
            traces = traces_of(settings)
            telemetry = Telemetry(log or HostLog(redact), metrics, health, *traces, *([manager] if manager else []))
            async with (
                worker_of(settings, telemetry, redact, health, timings=timings, store=store) as worker,
                anyio.create_task_group() as group,
            ):
                if threading.current_thread() is threading.main_thread():
                    group.start_soon(obey_signals, worker)
                if manager is not None:
                    group.start_soon(manager.run, health)
                if settings.http_port:
                    group.start_soon(_serve, settings, health, metrics, telemetry)
                await worker.run(drain=drain)
                group.cancel_scope.cancel()
    except ExceptionGroup as group_of_one:
        if (unfit := group_of_one.subgroup((TableError, RefusedError))) is not None:
            raise first_of(unfit) from None  # a user's mistake, not a crash among tasks
        raise


def traces_of(settings: Settings) -> list[OpenTelemetry]:
    """The sink for the host's OpenTelemetry, if there is one."""
    model, price = settings.replicate_model_version, settings.price_per_image
    return opentelemetry(settings.redact, model=model, price_per_image=price)


@asynccontextmanager
async def worker_of(
    settings: Settings,
    telemetry: Telemetry,
    redact: Redactor,
    health: Health | None = None,
    *,
    timings: Timings = TIMINGS,
    store: type[Store] = Store,
) -> AsyncIterator[Worker]:
    """A worker, and its provider until it is left."""
    provider = ReplicateProvider(
        settings.secret("replicate_api_token"),
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
async def health_of(settings: Settings, timings: Timings = TIMINGS) -> AsyncIterator[Health]:
    """What /readyz reports of a worker, and its connection until it is left."""
    pooled = settings.listen_database_url is not None
    dsn = settings.secret("database_url")
    session = Session(dsn, name="reactor health", pooled=pooled, writes=True, timings=timings.connections)
    try:
        yield Health(
            session,
            settings.tokens_table,
            prompt_sql=settings.prompt_sql,
            slots=settings.worker_batch_size,
            daily_budget=settings.daily_budget,
            history=settings.history_days > 0,
            timings=timings,
        )
    finally:
        with anyio.move_on_after(1.0, shield=True):
            await session.aclose()


async def _serve(settings: Settings, health: Health, metrics: Metrics, telemetry: Telemetry) -> None:
    refusals, host, keys = Refusals(telemetry), settings.http_host, Keys.of(settings)
    site = Site(settings, telemetry, health, can_sign_out=bool(keys))
    pages = application(site, health, metrics, refusals, keys=keys, host=host)
    most = connection_limit(settings.worker_batch_size)
    try:
        await serve(pages, refusals, host=host, port=settings.http_port, most=most, closing=site.changes.end)
    finally:
        with anyio.move_on_after(1.0, shield=True):
            await site.aclose()
