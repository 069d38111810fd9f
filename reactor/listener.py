"""The ear: one connection of its own that hears mints, and is proven to hear.

    connect ──▶ liveness lock ──▶ LISTEN ──▶ wake ──▶ probe, wait PROBE_EVERY, probe … ──lost or deaf──▶ connect …

A wake is only a hint; every (re)connect wakes too, since whatever was rung meanwhile was missed. A connection can look
healthy and hear nothing: through a transaction pooler LISTEN succeeds, the channel is listed, even a self-NOTIFY
arrives. So the probe is rung from another connection, and must arrive here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import asyncpg
from anyio import TASK_STATUS_IGNORED

from reactor.backoff import jittered, reconnect_delay
from reactor.database import LOST, DatabaseError, connect, session_name
from reactor.table import plain_query

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

    from reactor.store import Store
    from reactor.telemetry import Telemetry
    from reactor.wake import Wake

PROBE_EVERY = 9.0  # seconds, ± a tenth: with the time to arrive, a deaf connection is known after 15 s at most
PROBE_WITHIN = 5.0  # seconds
DEAF_AFTER = 2  # connections in a row that heard no probe: a pooler, and reconnecting more often would not help
DEAF_PAUSE = 60.0  # seconds between reconnects then


class _LostError(Exception):
    """The connection is gone, or hears nothing."""


class Listener:
    """Rings the wake. `key` tells under which key this worker may claim."""

    def __init__(self, dsn: str, store: Store, wake: Wake, telemetry: Telemetry, *, worker: int) -> None:
        self._dsn = dsn
        self._store = store
        self._wake = wake
        self._telemetry = telemetry
        self._worker = worker
        self._channel = f"reactor_probe_{worker}"
        self._deaf = 0
        self._told_lost = False
        self._starting: TaskStatus[None] = TASK_STATUS_IGNORED
        self.proven = False

    @property
    def key(self) -> int:
        """The worker's key; negative while no proven listener holds its liveness lock."""
        return self._worker if self.proven else -self._worker

    async def run(self, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED) -> None:
        """Listen until cancelled. Started once it is proven to hear, or once the first try has failed."""
        self._starting = task_status
        failures = 0
        while True:
            try:
                connection = await connect(self._dsn, name=session_name("listener"))
                failures = 0
                try:
                    await self._listen(connection)
                finally:
                    self.proven = False
                    connection.terminate()
            except (_LostError, DatabaseError, asyncpg.PostgresError, *LOST) as error:
                self._tell_lost(error)
            self._tell_started()
            failures += 1
            if self._deaf >= DEAF_AFTER:
                await anyio.sleep(jittered(DEAF_PAUSE))
            else:
                await self._store.reach.sleep(reconnect_delay(failures))

    async def _listen(self, connection: asyncpg.Connection[Any]) -> None:
        lost, heard = anyio.Event(), _Heard()
        connection.add_termination_listener(lambda _connection: lost.set())
        locked = await connection.fetchval(plain_query("liveness"), self._worker)
        await connection.add_listener(self._channel, heard)
        await connection.add_listener(self._store.table.wake_channel, self._ring)
        self._wake.ring()
        if self._told_lost:
            self._store.reach.back()
        self._telemetry.emit("listener.connected", channel=self._store.table.wake_channel)
        self._told_lost = False
        while True:
            if await self._heard_probe(heard, lost):
                self.proven, self._deaf = bool(locked), 0
            self._tell_started()
            with anyio.move_on_after(jittered(PROBE_EVERY, 0.1)):
                await lost.wait()
            if lost.is_set():
                raise _LostError("the connection was closed")

    def _ring(self, *_: Any) -> None:
        self._wake.ring()

    async def _heard_probe(self, heard: _Heard, lost: anyio.Event) -> bool:
        """Whether a ring from another connection arrived; False where none could be rung.

        Raises _LostError where it was rung and did not arrive.
        """
        heard.reset()
        try:
            await self._store.ring(self._channel)
        except DatabaseError:  # the other connection's trouble says nothing of this one
            return False
        with anyio.move_on_after(PROBE_WITHIN):
            await heard.wait()
            return True
        if lost.is_set():
            raise _LostError("the connection was closed")
        self._deaf += 1
        if self._deaf == DEAF_AFTER:
            self._telemetry.emit("listener.degraded", error_message="connected, but no notification arrives: a pooler?")
        raise _LostError("a probe did not arrive")

    def _tell_started(self) -> None:
        status, self._starting = self._starting, TASK_STATUS_IGNORED  # a second `started` would be an error
        status.started()

    def _tell_lost(self, error: Exception) -> None:
        self._store.reach.lost()
        if not self._told_lost:
            self._told_lost = True
            self._telemetry.emit("listener.lost", error_type=type(error).__name__.strip("_"), error_message=str(error))


class _Heard:
    """The probe's callback, and whether it was called since the last reset."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def __call__(self, *_: Any) -> None:
        self._event.set()

    def reset(self) -> None:
        self._event = anyio.Event()

    async def wait(self) -> None:
        await self._event.wait()
