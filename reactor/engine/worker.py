"""A reactor process: the tasks in it, and the order in which they stop.

    upkeep ─────────── listener, bell, settler, leases, inspector, rights, pruner, the provider's and idle connections
      └─ attempts ──── a task for each slot in use
           └─ claiming ─ dispatcher, rescuer, sweep

Stopping goes from the inside out. The first signal cancels claiming: nothing more is claimed. Attempts may go on for
the grace period. Then they are cancelled, and each hands its token back; a second signal cancels them at once. Upkeep
ends last, so leases are renewed and outcomes written as long as this worker holds a token.
"""

from __future__ import annotations

import secrets
import signal
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING

import anyio

from reactor import events
from reactor.database.availability import Availability
from reactor.database.connections import DatabaseError, RefusedError, session_name
from reactor.database.discovery import served
from reactor.database.search_path import SafePath
from reactor.database.session import Session
from reactor.database.store import Store
from reactor.engine.timings import TIMINGS
from reactor.engine.wake.wake import Wake
from reactor.engine.wiring import Wiring, accounting_of
from reactor.telemetry import Trouble
from reactor.text.messages import first_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from anyio.abc import TaskGroup

    from reactor.engine.health import Health
    from reactor.engine.timings import Timings
    from reactor.providers import Provider
    from reactor.settings import Settings
    from reactor.telemetry import Telemetry
    from reactor.text.redaction import Redactor


class Worker:
    """One reactor process."""

    def __init__(
        self,
        settings: Settings,
        provider: Provider,
        telemetry: Telemetry,
        redact: Redactor,
        *,
        health: Health | None = None,
        timings: Timings = TIMINGS,
        store: type[Store] = Store,
    ) -> None:
        self._settings = settings
        self._provider = provider
        self._telemetry = telemetry
        self._redact = redact
        self._health = health
        self._timings = timings
        self._store_type = store
        # New at every start. A host name or a pid may be used again, this key is not.
        self._key = secrets.randbelow(2**63 - 1) + 1
        self._wake = Wake()
        self._stopping = False
        self._claiming_scope = anyio.CancelScope()
        self._attempts_scope: anyio.CancelScope | None = None

    def stop(self) -> None:
        """Stop claiming and let attempts finish within the grace period; called again, release them at once."""
        if not self._stopping:
            self._stopping = True
            self._claiming_scope.cancel()
        elif self._attempts_scope is not None:
            self._attempts_scope.cancel()

    def stop_now(self) -> None:
        """Release everything at once."""
        self.stop()
        self.stop()

    async def run(self, *, drain: bool = False) -> None:
        """Work until stopped; with `drain`, until no token is detected or generating.

        If cancelled from outside it still hands its tokens back. Raises TableError if the table is not migrated, and
        RefusedError if the server can never serve us at the URL.
        """
        async with self._sessions() as sessions:
            store: Store | None = None
            with self._until_stopped():
                store = await self._store(sessions)
            if store is None:
                return
            try:
                async with anyio.create_task_group() as watch:
                    watch.start_soon(self._stop_when_cancelled)
                    with anyio.CancelScope(shield=True):
                        await self._run(store, drain=drain)
                    watch.cancel_scope.cancel()
            except ExceptionGroup as errors:
                if (refused := errors.subgroup(RefusedError)) is not None:
                    raise first_of(refused) from None
                raise

    @contextmanager
    def _until_stopped(self) -> Iterator[None]:
        with anyio.CancelScope() as self._claiming_scope:
            if self._stopping:
                self._claiming_scope.cancel()
            yield

    async def _stop_when_cancelled(self) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            self.stop_now()

    async def _run(self, store: Store, *, drain: bool) -> None:
        self._telemetry.emit(events.WORKER_STARTED, worker=self._key, table=store.table.relation)
        if not store.table.triggers_enabled:
            message = f"no enabled wake triggers on {store.table.relation}: mints wait for the sweep"
            self._telemetry.emit(events.LISTENER_DEGRADED, error_message=message)
        async with anyio.create_task_group() as upkeep:
            await self._work(store, upkeep, drain=drain)
            upkeep.cancel_scope.cancel()
        if self._health is not None:
            self._health.detach()
        self._telemetry.emit(events.WORKER_STOPPED, worker=self._key)

    async def _work(self, store: Store, upkeep: TaskGroup, *, drain: bool) -> None:
        settings = self._settings
        wiring = Wiring(
            settings, store, self._provider, self._telemetry, self._wake, worker=self._key, timings=self._timings
        )
        if self._health is not None:
            self._health.attach(
                in_use=lambda: wiring.leases.held,
                proven=lambda: wiring.listener.proven,
                proven_at=lambda: wiring.listener.proven_at,
                blocked=lambda: wiring.bell.blocked or wiring.listener.blocked,
                stand_in=store.maintenance,
            )
        for role in (wiring.settler, wiring.leases, wiring.inspector, wiring.bell, wiring.pruner):
            upkeep.start_soon(role.run)
        upkeep.start_soon(self._provider.keep_warm)
        upkeep.start_soon(self._close_idle, store)
        with self._until_stopped():
            await upkeep.start(wiring.rights.run)
            await upkeep.start(wiring.listener.run)
        async with wiring.attempts as self._attempts_scope:
            await self._keep_claiming(wiring, store, drain=drain)
            self._telemetry.emit(
                events.WORKER_STOPPING, held=wiring.leases.held, grace_seconds=settings.shutdown_grace_seconds
            )
            self._attempts_scope.deadline = anyio.current_time() + settings.shutdown_grace_seconds
        with anyio.move_on_after(self._timings.last_writes_within):
            await wiring.settler.drained()

    async def _close_idle(self, store: Store) -> None:
        while True:
            await anyio.sleep(self._timings.close_idle_every)
            await store.close_idle()
            if self._health is not None:
                await self._health.close_idle()

    async def _keep_claiming(self, wiring: Wiring, store: Store, *, drain: bool) -> None:
        with self._until_stopped():
            async with anyio.create_task_group() as claiming:
                claiming.start_soon(wiring.rescuer.run)
                claiming.start_soon(wiring.sweep.run)
                claiming.start_soon(wiring.dispatcher.run)
                if drain:
                    await self._drained(wiring, store)
                    claiming.cancel_scope.cancel()
        wiring.bell.want("nothing")

    async def _drained(self, wiring: Wiring, store: Store) -> None:
        """Return once no token is detected or generating anywhere, as far as this worker's role may see."""
        trouble = Trouble(self._telemetry, "worker")
        while wiring.leases.held or await self._unfinished(store, trouble) or await wiring.rights.faulty():
            with anyio.move_on_after(self._timings.drain_every):  # no event says when another worker has finished
                await wiring.leases.slot_freed()

    async def _unfinished(self, store: Store, trouble: Trouble) -> bool:
        try:
            return await store.unfinished()
        except DatabaseError as error:
            trouble.met(error)
            return True

    async def _store(self, sessions: dict[str, Session]) -> Store:
        """Find the tokens table. Waits for the database as long as it takes."""
        trouble, failures = Trouble(self._telemetry, "worker"), 0
        while True:
            try:
                table = await served(
                    sessions["maintenance"], self._settings.tokens_table, prompt_sql=self._settings.prompt_sql
                )
            except RefusedError:
                raise  # waiting does not help
            except DatabaseError as error:
                trouble.met(error)
                await anyio.sleep(self._timings.reconnect_delay(failures))
                failures += 1
            else:
                limit = self._settings.rate_limit_per_minute
                return self._store_type(
                    table,
                    self._redact,
                    **sessions,
                    lease=self._settings.lease_seconds,
                    create_interval=60.0 / limit if limit else 0.0,
                    accounting=accounting_of(self._settings),
                )

    @asynccontextmanager
    async def _sessions(self) -> AsyncIterator[dict[str, Session]]:
        dsn, safe, timings = self._settings.secret("database_url"), SafePath(), self._timings.connections
        pooled = self._settings.listen_database_url is not None
        session_as = partial(Session, dsn, pooled=pooled, availability=Availability(), writes=True, timings=timings)
        sessions = {
            name: session_as(name=session_name(name)) for name in ("claims", "writes", "renewals", "maintenance")
        }
        for session in sessions.values():
            session.safe = safe
        for name in ("claims", "writes", "renewals"):
            sessions[name].stand_in = sessions["maintenance"]
        try:
            yield sessions
        finally:
            with anyio.move_on_after(1.0, shield=True):
                for session in sessions.values():
                    await session.aclose()


async def obey_signals(worker: Worker) -> None:
    """Stop the worker on SIGTERM or SIGINT, and at once on the second. Main thread only."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        async for _ in received:
            worker.stop()
