"""Hears mints on a connection of its own, and proves that it hears them.

    connect ──▶ LISTEN ──▶ wake ──▶ liveness lock, probe, wait, lock, probe … ──lost or deaf──▶ connect …

A wake is only a hint. Every (re)connect wakes the dispatcher too, because notifications sent meanwhile were missed. A
connection can look healthy and hear nothing: through a transaction pooler LISTEN succeeds, the channel is listed, and
even a self-NOTIFY arrives. So a probe is sent from another connection, and must arrive here. A connection that does not
even answer a query is lost; that is no sign of a pooler. The bell takes its locks on a proven connection: see bell.py.
"""

from __future__ import annotations

import time
from contextlib import nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import asyncpg
from anyio import TASK_STATUS_IGNORED

from reactor import events
from reactor.backoff import jittered
from reactor.database.connections import (
    LOST,
    DatabaseError,
    RefusedError,
    TooManyConnectionsError,
    ended_by_others,
    session_name,
)
from reactor.database.search_path import Inherited, connect, within
from reactor.database.table import plain_query
from reactor.engine.wake.wake import Wake
from reactor.failpoints import reached
from reactor.text.messages import message_of

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

    from reactor.database.store import Store
    from reactor.engine.timings import Timings
    from reactor.engine.wake.bell import Ask, Bell
    from reactor.secret import Secret
    from reactor.telemetry import Telemetry

DEAF_AFTER = 2  # connections in a row without a probe: a pooler is in between, and reconnecting fast does not help


class _LostError(Exception):
    """The connection is gone, or no longer answers."""


class _DeafError(_LostError):
    """The connection answers queries, but no notification arrives on it."""


class Listener:
    """Passes mints on to the bell, and wakes after each (re)connect. This worker claims under `key`."""

    def __init__(
        self,
        dsn: str | Secret,
        store: Store,
        wake: Wake,
        bell: Bell,
        telemetry: Telemetry,
        *,
        worker: int,
        timings: Timings,
    ) -> None:
        self._dsn = dsn
        self._store = store
        self._wake = wake
        self._bell = bell
        self._telemetry = telemetry
        self._worker = worker
        self._timings = timings
        self._channel = f"reactor_probe_{worker}"
        self._failures = 0
        self._unproven = 0  # probes of this connection in a row that did not prove it
        self._deaf = 0  # connections in a row that heard no probe
        self._lost_logged = False
        self._unanswered = False  # a query on this connection got no answer
        self._pooled = False  # this connection goes through a pooler
        self._starting: TaskStatus[None] = TASK_STATUS_IGNORED
        self._turn = anyio.Lock(fast_acquire=True)
        self._alive = False  # it holds the liveness lock
        self.proven = False
        self.proven_at: float | None = None  # monotonic seconds of the last probe that arrived
        self.blocked = False  # a stranger holds the liveness lock

    @property
    def key(self) -> int:
        """The worker's key; negative while no proven listener holds its liveness lock."""
        return self._worker if self.proven and self._alive else -self._worker

    async def run(self, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED) -> None:
        """Listen until cancelled. Started once it is proven to hear, or once the first try has failed.

        Raises RefusedError if the server can never serve it, but only before the start: a later refusal may end.
        """
        self._starting = task_status
        while True:
            try:
                connection, inherited = await connect(
                    self._dsn, name=session_name("listener"), timings=self._timings.connections
                )
                try:
                    await self._listen(connection, inherited)
                finally:
                    self.proven = False
                    self._bell.detach()
                    connection.terminate()
            except (_LostError, DatabaseError, asyncpg.PostgresError, *LOST) as error:
                if isinstance(error, RefusedError) and self._starting is not TASK_STATUS_IGNORED:
                    raise
                self._lost(error)
                if isinstance(error, TooManyConnectionsError):
                    await self._store.give_up_a_connection()
            self._tell_started()
            self._failures += 1
            if self._deaf >= DEAF_AFTER:
                await anyio.sleep(jittered(self._timings.deaf_pause))
            else:
                await self._store.availability.sleep(self._timings.reconnect_delay(self._failures))

    async def _listen(self, connection: asyncpg.Connection[Any], inherited: Inherited | None) -> None:
        lost, heard, ask = anyio.Event(), Wake(), self._asking(connection, inherited)
        self._unanswered, self._pooled = False, inherited is not None
        connection.add_termination_listener(lambda _connection: lost.set())
        await connection.add_listener(self._channel, lambda *_: heard.ring())
        await connection.add_listener(self._store.table.wake_channel, lambda *_: self._bell.wake_rang())
        await connection.add_listener(self._store.table.bell_channel, lambda *_: self._bell.watch_was_left())
        await reached("listening")
        self._connected()
        while True:
            await self._prove(ask, heard, lost)
            self._tell_started()
            if self.proven:
                self._bell.attach(ask)
            self._unproven = 0 if self.proven else self._unproven + 1
            soon = self._timings.reconnect_delay(self._unproven)
            with anyio.move_on_after(jittered(self._timings.probe_every, 0.1) if self.proven else soon):
                await lost.wait()
            if lost.is_set():
                raise self._closed()

    def _closed(self) -> _LostError:
        """Why the connection is gone: it was closed by others, or by us after a query without an answer."""
        return _LostError("the connection does not answer" if self._unanswered else "the connection was closed")

    def _connected(self) -> None:
        self._failures = self._unproven = 0
        self._wake.ring()
        if self._lost_logged:
            self._store.availability.back()
        if self._deaf < DEAF_AFTER:  # else the connection is logged once it is proven
            self._tell_connected()

    def _tell_connected(self) -> None:
        self._telemetry.emit(events.LISTENER_CONNECTED, channel=self._store.table.wake_channel)
        self._lost_logged = False

    def _asking(self, connection: asyncpg.Connection[Any], inherited: Inherited | None) -> Ask:
        """Return a function that fetches one row on this connection, one query at a time.

        If a query gets no answer the connection is closed, because it may hold a lock that we do not know of: a
        session's lock outlives the error of its statement.
        """

        async def ask(query: str, *arguments: Any) -> asyncpg.Record:
            async with self._turn:
                try:
                    with ended_by_others(connection):
                        async with within(connection, inherited) if inherited else nullcontext():
                            rows: list[asyncpg.Record] = await connection.fetch(query, *arguments)
                except BaseException as error:
                    self._unanswered = isinstance(error, TimeoutError)
                    connection.terminate()
                    raise
                return rows[0]

        return ask

    async def _prove(self, ask: Ask, heard: Wake, lost: anyio.Event) -> None:
        """Query this connection, then send it a probe from another connection and wait until it arrives.

        If the probe could not be sent, `proven` stays as it is: the other connection's failure says nothing about this
        one. Raises _LostError.
        """
        answered = rung = False
        heard.clear()
        # A query has a time limit of its own, longer than the probe's. If the event loop was blocked, both may expire.
        with anyio.move_on_after(self._timings.probe_within), suppress(TimeoutError):
            # Try to take the lock each time: after a break the server may still see our old connection holding it.
            # Not through a pooler that was not heard: the lock would stay with a session of the server's.
            alive = partial(ask, plain_query("liveness"), self._worker, self._store.table.relation)
            life = await (ask(plain_query("answer")) if self._pooled else alive())
            answered = True
            rung = await self._rung()
            if rung:
                await heard.wait()
                if self._pooled:
                    life = await alive()
                if self._deaf >= DEAF_AFTER:
                    self._tell_connected()
                self._alive, self._deaf = bool(life["taken"]), 0
                self._tell_blocked(life["strangers"])
                self.proven = self._alive or self.blocked
                self.proven_at = time.monotonic()
                return
        if lost.is_set():
            raise self._closed()
        if not answered:
            raise _LostError("the connection does not answer")
        if rung:
            self._hears_nothing()

    def _tell_blocked(self, strangers: str | None) -> None:
        if strangers and not self.blocked:
            self._telemetry.emit(events.LOCK_BLOCKED, lock="liveness", held_by=strangers)
        self.blocked = bool(strangers)

    async def _rung(self) -> bool:
        try:
            await self._store.ring(self._channel)
        except DatabaseError:
            return False
        return True

    def _hears_nothing(self) -> None:
        self._deaf += 1
        if self._deaf == DEAF_AFTER:
            self._telemetry.emit(
                events.LISTENER_DEGRADED, error_message="connected, but no notification arrives: a pooler?"
            )
        raise _DeafError("a probe did not arrive")

    def _tell_started(self) -> None:
        status, self._starting = self._starting, TASK_STATUS_IGNORED  # a second `started` would be an error
        status.started()

    def _lost(self, error: Exception) -> None:
        if not self._lost_logged:
            self._lost_logged = True
            self._telemetry.emit(
                events.LISTENER_LOST, error_type=type(error).__name__.strip("_"), error_message=message_of(error)
            )
