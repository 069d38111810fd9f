"""A connection that opens by itself: at first use, and again after every loss. One statement at a time.

The settings of role, database and server apply, unless our startup parameters (connections.py) override them. Two
inherited settings are dealt with here, once a connection is open:

- `synchronous_commit = off` would lose commits on which money depends: a claim writes its intent before anything is
  bought. It becomes `on`; stricter values stay.
- A read-only database (frozen by an operator, or a standby) is waited for, like one that is away.

An idle connection is closed. While a server has few connections left, a session with a stand-in opens none, and sends
its statements through the stand-in.

Through a transaction pooler we share the session with others, so nothing is set on it. Each statement that needs a
setting runs in a transaction that sets it. All need the search path (see search_path.py), unless the role has it.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

import anyio
import asyncpg

from reactor.backoff import jittered
from reactor.database.availability import Availability
from reactor.database.connections import (
    LOST,
    ConnectionLostError,
    DatabaseError,
    DeniedError,
    HostRefusedError,
    ReadOnlyError,
    RolledBackError,
    RowRefusedError,
    TooManyConnectionsError,
    dial,
    ended_by_others,
)
from reactor.database.driver_words import kind_and_message
from reactor.database.poolers import lost_prepared
from reactor.database.search_path import Inherited, SafePath, pin, within
from reactor.database.sqlstates import DENIED, LOST_STATES, NOT_A_ROW, RAISED_BY_HOSTS, READ_ONLY
from reactor.database.table import PINNED, plain_query
from reactor.database.timings import CONNECTION_TIMINGS
from reactor.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reactor.database.timings import ConnectionTimings

_CHECKS_POLICIES = "ExecWithCheckOptions"  # the server function that an error names, in any language


class Session:
    """One connection and its state.

    `writes`: a read-only database counts as away. `stand_in` serves while the server has few connections left.
    `safe`: the search path of its statements, which the sessions of a worker share.
    """

    def __init__(
        self,
        dsn: str | Secret,
        *,
        name: str,
        pooled: bool = False,
        availability: Availability | None = None,
        writes: bool = False,
        timings: ConnectionTimings = CONNECTION_TIMINGS,
    ) -> None:
        self.stand_in: Session | None = None
        self.availability = availability or Availability()
        self.safe = SafePath()
        self._dsn = Secret.of(dsn)
        self._name = name
        self._pooled = pooled
        self._writes = writes
        self._timings = timings
        self._connection: asyncpg.Connection[Any] | None = None
        self._path = PINNED  # as it is set on the connection
        self._inherited: Inherited | None = None  # if the connection is a pooler's
        self._durable = self._read_committed = True
        self._crowded_until = 0.0  # monotonic seconds
        self._used_at = 0.0  # monotonic seconds
        self._lost = False
        self._turn = asyncio.Lock()  # it costs a quarter of anyio's

    async def fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        """Run one statement and return its rows.

        Raises ConnectionLostError, RolledBackError or RowRefusedError.
        """
        if self.stand_in is not None and time.monotonic() < self._crowded_until:
            return await self.stand_in.fetch(query, *arguments)
        try:
            return await self._fetch(query, arguments)
        except TooManyConnectionsError:
            if self.stand_in is None:
                raise
        return await self.stand_in.fetch(query, *arguments)

    async def _fetch(self, query: str, arguments: Sequence[Any]) -> list[asyncpg.Record]:
        async with self._turn:
            self._used_at = time.monotonic()
            try:
                try:
                    rows = await self._fetched(query, arguments)
                except asyncpg.PostgresError as error:
                    if not lost_prepared(error):
                        raise
                    self._pooled = True  # nothing was executed, so it is sent again once, as through a pooler
                    self.drop()
                    rows = await self._fetched(query, arguments)
            except (*LOST, asyncpg.PostgresError) as error:
                raise self._classified(error) from error
            except anyio.get_cancelled_exc_class():
                self.drop()
                raise
            if self._lost:
                self._lost = False
                self.availability.back()
            return rows

    async def _fetched(self, query: str, arguments: Sequence[Any]) -> list[asyncpg.Record]:
        connection = await self._connected()
        with ended_by_others(connection):
            path = await self._safe_path(connection)
            if self._inherited is None:
                await self._set_path(connection, path)
                return await connection.fetch(query, *arguments)
            if self._durable and self._read_committed and self._inherited.path == path:
                return await connection.fetch(query, *arguments)
            besides = "" if self._durable else "SET LOCAL synchronous_commit = on"
            async with within(connection, self._inherited, path=path, besides=besides, isolation="read_committed"):
                return await connection.fetch(query, *arguments)

    async def _safe_path(self, connection: asyncpg.Connection[Any]) -> str:
        if self.safe.due:
            if self._inherited is None:
                await self._set_path(connection, PINNED)
            await self.safe.ask(connection, self._inherited)
        return self.safe.path

    async def _set_path(self, connection: asyncpg.Connection[Any], path: str) -> None:
        if self._path != path:
            await connection.fetch(plain_query("set_path"), path)
            self._path = path

    async def _connected(self) -> asyncpg.Connection[Any]:
        """Return the connection, opened if there is none. Raises DatabaseError."""
        if self._connection is not None and self._connection.is_closed():
            self._lose()
        if self._connection is None:
            try:
                self._connection = await self._opened()
            except TooManyConnectionsError:
                if self.stand_in is None:
                    self._lose()
                self._crowded_until = time.monotonic() + jittered(self._timings.crowded_for)
                raise
            except ConnectionLostError:
                self._lose()
                raise
        return self._connection

    async def _opened(self) -> asyncpg.Connection[Any]:
        connection, self._pooled = await dial(self._dsn, name=self._name, pooled=self._pooled, timings=self._timings)
        try:
            await self._settle_inherited(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _settle_inherited(self, connection: asyncpg.Connection[Any]) -> None:
        self._path, self._inherited = PINNED, await pin(connection, pooled=self._pooled)
        async with within(connection, self._inherited) if self._inherited else nullcontext():
            (inherited,) = await connection.fetch(plain_query("inherited"), not self._pooled)
            crowded = self.stand_in is not None and (await connection.fetch(plain_query("crowded")))[0]["crowded"]
        if self._writes and inherited["read_only"]:
            raise ReadOnlyError
        self._durable, self._read_committed = inherited["durable"], inherited["read_committed"]
        if crowded:
            await connection.close(timeout=1.0)
            raise TooManyConnectionsError

    def _classified(self, error: Exception) -> DatabaseError:
        state = getattr(error, "sqlstate", None) or ""
        said = kind_and_message(error)
        if state == READ_ONLY:
            self._lose()
            return ReadOnlyError()
        # An ERROR does not end the session: a host's trigger may have lost a connection of its own.
        of_a_statement = state.startswith("08") and getattr(error, "severity_en", None) == "ERROR"
        lost = not state or state in LOST_STATES or state.startswith("08")
        # An argument that asyncpg cannot encode raises an InterfaceError which is a ValueError too: nothing was lost.
        if lost and not of_a_statement and not isinstance(error, ValueError):
            self._lose()
            return ConnectionLostError(said)
        if state.startswith(NOT_A_ROW):
            # The context of an error that a trigger raised names its language (PL/pgSQL). The server's own errors have
            # no such context; one of them, from a policy of row-level security, may be about a row.
            in_a_trigger = state.startswith(RAISED_BY_HOSTS) and "PL/" in (getattr(error, "context", None) or "")
            if in_a_trigger or getattr(error, "server_source_function", None) == _CHECKS_POLICIES:
                return HostRefusedError(said, kind=type(error).__name__)
            if state == DENIED:
                self.availability.doubt(said)
                return DeniedError(said)
            return RolledBackError(said)
        return RowRefusedError(said, kind=type(error).__name__)

    def _lose(self) -> None:
        self.drop()
        self._lost = True
        self.availability.lost()

    def drop(self) -> None:
        """Terminate the connection without a goodbye, because the server may not be there to answer it."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def prove(self) -> None:
        """Check that the connection answers, if it has not been used for a while; one that does not is replaced."""
        if time.monotonic() - self._used_at >= self._timings.proven_for:
            with suppress(DatabaseError):  # the next statement raises it again
                await self.fetch(plain_query("answer"))

    async def close_if_idle(self) -> None:
        """Close the connection if it has not been used for a while; the next statement opens another."""
        if time.monotonic() - self._used_at >= self._timings.idle_after and not self._turn.locked():
            async with self._turn:
                await self.aclose()

    async def give_up(self) -> None:
        """Close the connection if a stand-in can serve for a while: another role of the worker needs it more."""
        if self.stand_in is not None and self._connection is not None and not self._turn.locked():
            self._crowded_until = time.monotonic() + jittered(self._timings.crowded_for)
            await self.aclose()

    async def aclose(self) -> None:
        """Close the connection; terminate it if the server takes longer than a second."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*LOST, asyncpg.PostgresError):
                await connection.close(timeout=1.0)
