"""Connections to PostgreSQL, and everything that is set on them.

A worker has a connection per role, not one pool: a claim must not queue behind a renewal. A statement whose
connection broke or whose await was cancelled has an unknown outcome (45 % of cancelled autocommit UPDATEs had
committed when we measured), so such a connection is terminated, never used again, and the caller is told which of
the two happened: ConnectionLostError (unknown) or, certainly nothing, RolledBackError and RowRefusedError.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Any

import anyio
import asyncpg

from reactor.messages import message_of
from reactor.reach import Reach

CONNECT_WITHIN = 5.0  # seconds
ANSWER_WITHIN = 10.0  # seconds; the client's limit, a little above the server's, so that the server rolls back first
SERVER_SETTINGS = {
    "statement_timeout": "8s",
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "15s",
    "idle_session_timeout": "0",  # a role's default would kill the idle listener
    "default_transaction_isolation": "read committed",  # a stricter role default would fail claims with 40001
    "default_transaction_read_only": "off",
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
    # How soon the server notices a dead worker, and lets go of its liveness lock.
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "client_connection_check_interval": "2s",
}
_KEEPALIVE = (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 10_000))

# How asyncpg tells that a connection is of no use any more: of one that the server ends just as a statement begins, by
# "cannot switch to state …", an InternalClientError.
LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
    EOFError,
)
# Shutdown, starting up, full, timeouts; and read-only: what became a standby stays one, the primary is found anew.
_LOST_STATES = {"57P01", "57P02", "57P03", "53300", "57P05", "25P03", "25P04", "25006"}
# Classes of errors that have nothing to do with a row: what is missing, denied, full, timed out, or broken. Everything
# else (data, constraints, what a host's trigger raises under whatever code) is a row's fault, and would come again.
_NOT_A_ROW = ("0A", "21", "25", "26", "28", "3D", "3F", "40", "42", "53", "54", "55", "57", "58", "XX")


class DatabaseError(Exception):
    """The database could not serve a statement now; nobody's token is to blame. Retry."""


class ConnectionLostError(DatabaseError):
    """The connection was lost or never made: the statement may have committed or not."""


class RolledBackError(DatabaseError):
    """The server refused it or rolled it back: deadlock, timeout, disk full, a missing privilege."""


class RowRefusedError(DatabaseError):
    """A row's data, a constraint or a trigger of the host's is at fault: nothing was written, nor would be next time.

    `kind` is the name of the driver's error.
    """

    def __init__(self, message: str, *, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


def session_name(role: str) -> str:
    """The application_name of a worker's connection: workers are counted by it."""
    return f"reactor {role}"


async def connect(dsn: str, *, name: str, pooled: bool = False) -> asyncpg.Connection[Any]:
    """Open one connection, with our settings where the other end takes them.

    A transaction pooler refuses startup parameters that it does not know, and prepared statements are not its
    clients' own: it gets neither. Raises ConnectionLostError where no connection can be had.
    """
    try:
        connection = await _open(dsn, name, pooled=pooled)
    except (*LOST, asyncpg.PostgresError, ValueError) as error:
        raise ConnectionLostError(_told(error)) from error
    _keep_alive(connection)
    return connection


async def _open(dsn: str, name: str, *, pooled: bool) -> asyncpg.Connection[Any]:
    named = {"application_name": name}
    if not pooled:
        with suppress(asyncpg.ProtocolViolationError):  # "unsupported startup parameter": a pooler after all
            return await asyncpg.connect(
                dsn,
                timeout=CONNECT_WITHIN,
                command_timeout=ANSWER_WITHIN,
                server_settings=named | SERVER_SETTINGS,
            )
    return await asyncpg.connect(
        dsn,
        timeout=CONNECT_WITHIN,
        command_timeout=ANSWER_WITHIN,
        server_settings=named,
        statement_cache_size=0,
    )


def _keep_alive(connection: asyncpg.Connection[Any]) -> None:
    # asyncpg sets TCP_NODELAY only, and has no public way to its socket.
    transport = getattr(connection, "_transport", None)
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None or sock.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    with suppress(OSError):  # a kernel that lacks an option keeps its default
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE:
            if hasattr(socket, option):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


class Session:
    """One connection, opened at first use and anew after every loss; one statement at a time."""

    def __init__(self, dsn: str, *, name: str, pooled: bool = False, reach: Reach | None = None) -> None:
        self.reach = reach or Reach()
        self._dsn = dsn
        self._name = name
        self._pooled = pooled
        self._connection: asyncpg.Connection[Any] | None = None
        self._lost = False
        self._turn = asyncio.Lock()  # a quarter of what anyio's costs

    async def fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        """Run one statement and return its rows.

        Raises ConnectionLostError, RolledBackError or RowRefusedError.
        """
        async with self._turn:
            connection = await self._connected()
            try:
                rows = await connection.fetch(query, *arguments)
            except (*LOST, asyncpg.PostgresError) as error:
                raise self._judged(error) from error
            except anyio.get_cancelled_exc_class():
                self.drop()
                raise
            if self._lost:
                self._lost = False
                self.reach.back()
            return rows

    async def _connected(self) -> asyncpg.Connection[Any]:
        if self._connection is not None and self._connection.is_closed():
            self._lose()
        if self._connection is None:
            try:
                self._connection = await connect(self._dsn, name=self._name, pooled=self._pooled)
            except ConnectionLostError:
                self._lose()
                raise
        return self._connection

    def _judged(self, error: Exception) -> DatabaseError:
        state = getattr(error, "sqlstate", None) or ""
        # asyncpg reports an argument that it cannot encode as a connection's error too; it is a ValueError as well.
        told = _told(error)
        # What a statement raised, and did not end its session: a host's trigger may lose a connection of its own.
        of_a_statement = state.startswith("08") and getattr(error, "severity_en", None) == "ERROR"
        lost = not state or state in _LOST_STATES or state.startswith("08")
        if lost and not of_a_statement and not isinstance(error, ValueError):
            self._lose()
            return ConnectionLostError(told)
        if state.startswith(_NOT_A_ROW):
            return RolledBackError(told)
        return RowRefusedError(told, kind=type(error).__name__)

    def _lose(self) -> None:
        self.drop()
        self._lost = True
        self.reach.lost()

    def drop(self) -> None:
        """Terminate the connection, without a word to the other side, which may not be there to hear it."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def aclose(self) -> None:
        """Say goodbye, or drop it where that takes long."""
        if self._connection is not None:
            with suppress(*LOST, asyncpg.PostgresError):
                await self._connection.close(timeout=1.0)
            self._connection = None


def _told(error: Exception) -> str:
    """The error's kind and message; not its detail, which repeats the row, nor an argument that it cannot encode."""
    said = str(error.args[0]) if isinstance(error, asyncpg.PostgresError) and error.args else message_of(error)
    if isinstance(error, ValueError) and isinstance(error, asyncpg.InterfaceError):
        said = "a value that PostgreSQL cannot take"
    return f"{type(error).__name__}: {said}"
