"""Opens connections to PostgreSQL, with our settings, and defines the errors that their statements raise.

A worker has a connection per role, not one pool: a claim must not queue behind a renewal. A statement whose
connection broke or whose await was cancelled has an unknown outcome (45 % of cancelled autocommit UPDATEs had
committed when we measured), so such a connection is terminated, never used again. The error says what is known:
after ConnectionLostError the statement may have committed; after RolledBackError or RowRefusedError it did not.
"""

from __future__ import annotations

import socket
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import asyncpg

from reactor.database.timings import CONNECTION_TIMINGS
from reactor.text.messages import message_of, of_connecting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reactor.database.timings import ConnectionTimings

SERVER_SETTINGS = {
    "idle_in_transaction_session_timeout": "15s",
    "idle_session_timeout": "0",  # a role's default would kill the idle listener
    "default_transaction_isolation": "read committed",  # a stricter role default would fail claims with 40001
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
    # How soon the server notices a dead worker, and lets go of its liveness lock.
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "client_connection_check_interval": "2s",
}
_REPEATS_AN_ARGUMENT = "invalid input for query argument"  # an asyncpg DataError begins so; it may repeat a prompt
_KEEPALIVE = (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 10_000))

# A host's trigger may raise a message that repeats a row, with hundreds of MB. We keep more than a Redactor reads, so
# that the Redactor sees that the message was cut.
LONGEST_MESSAGE = 10_000  # characters
_LONGEST_CONTEXT = 500  # characters

_UNDEFINED = {"42P01", "42883", "42704"}  # a table, function or type that is not found

# What asyncpg raises for a connection that cannot be used any more. If the server ends it just as a statement begins,
# that is "cannot switch to state …", an InternalClientError.
LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
    EOFError,
)


class DatabaseError(Exception):
    """The database did not serve a statement. Retry, unless a row is to blame: RowRefusedError."""


class ConnectionLostError(DatabaseError):
    """The connection was lost or could not be made: the statement may have committed or not."""


class ReadOnlyError(ConnectionLostError):
    """The database takes no writes: an operator froze it, or it is a standby. We wait, as for one that is away."""

    def __init__(self) -> None:
        super().__init__("the database is read-only")


class TooManyConnectionsError(ConnectionLostError):
    """The server, the database or the role has no connection left."""


class RolledBackError(DatabaseError):
    """The server refused the statement or rolled it back: deadlock, timeout, disk full, a missing privilege."""


class HostRefusedError(RolledBackError):
    """A host's trigger raised a code that is not about a row, as `insufficient_privilege`, or a policy refused the row.

    It may fail for this row only, or for all until somebody repairs it. `kind` is the name of the driver's error.
    """

    def __init__(self, message: str, *, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class RowRefusedError(DatabaseError):
    """A row's data, a constraint or a host's trigger is at fault: nothing was written, and a retry would fail too.

    `kind` is the name of the driver's error.
    """

    def __init__(self, message: str, *, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


REFUSED = (RowRefusedError, HostRefusedError)  # without the refused row, a statement about several may succeed


def session_name(role: str) -> str:
    """The application_name of a worker's connection: workers are counted by it."""
    return f"reactor {role}"


async def dial(
    dsn: str, *, name: str, pooled: bool = False, timings: ConnectionTimings = CONNECTION_TIMINGS
) -> tuple[asyncpg.Connection[Any], bool]:
    """Open one connection; return it, and whether it is pooled.

    A transaction pooler gets no startup parameters, because it refuses those that it does not know, and no prepared
    statements, because its clients share them. Raises ConnectionLostError if no connection can be made.
    """
    try:
        connection, pooled = await _open(dsn, name, pooled=pooled, timings=timings)
    except asyncpg.TooManyConnectionsError as error:
        raise TooManyConnectionsError(kind_and_message(error)) from error
    except ValueError as error:
        raise ConnectionLostError(f"{type(error).__name__}: {of_connecting(error)}") from error
    except (*LOST, asyncpg.PostgresError) as error:
        raise ConnectionLostError(kind_and_message(error)) from error
    _keep_alive(connection)
    return connection, pooled


async def _open(
    dsn: str, name: str, *, pooled: bool, timings: ConnectionTimings
) -> tuple[asyncpg.Connection[Any], bool]:
    named = {"application_name": name}
    limits = {
        "statement_timeout": f"{timings.statement_timeout:g}s",
        "lock_timeout": f"{timings.lock_timeout:g}s",
    }
    if not pooled:
        with suppress(asyncpg.ProtocolViolationError):  # "unsupported startup parameter": a pooler after all
            connection = await asyncpg.connect(
                dsn,
                timeout=timings.connect_within,
                command_timeout=timings.answer_within,
                server_settings=named | limits | SERVER_SETTINGS,
            )
            return connection, False
    connection = await asyncpg.connect(
        dsn,
        timeout=timings.connect_within,
        command_timeout=timings.answer_within,
        server_settings=named,
        statement_cache_size=0,
    )
    return connection, True


@contextmanager
def ended_by_others(connection: asyncpg.Connection[Any]) -> Iterator[None]:
    """Raise InterfaceError, which is in LOST, if another task terminated the connection between two of its steps.

    asyncpg itself raises AttributeError then, because the connection has no protocol any more.
    """
    try:
        yield
    except AttributeError as error:
        if not connection.is_closed():
            raise
        raise asyncpg.InterfaceError("the connection was terminated") from error


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


def kind_and_message(error: Exception) -> str:
    """The error's kind and message, cut; without its detail, which repeats the row, or an argument that it repeats."""
    said = str(error.args[0]) if isinstance(error, asyncpg.PostgresError) and error.args else message_of(error)
    said = said[:LONGEST_MESSAGE]
    unencodable = isinstance(error, ValueError) and isinstance(error, asyncpg.InterfaceError)
    if unencodable or said.startswith(_REPEATS_AN_ARGUMENT):
        said = "a value that PostgreSQL cannot take"
    return f"{type(error).__name__}: {said}{_in_a_function(error)}"


def _in_a_function(error: Exception) -> str:
    """A hint, if a host's function names something without its schema: our search path may lack that schema."""
    context = str(getattr(error, "context", None) or "")[:_LONGEST_CONTEXT].partition("\n")[0]
    if getattr(error, "sqlstate", None) not in _UNDEFINED or "function" not in context:
        return ""
    return f", in {context}: our search path leaves out schemas in which other roles may create, or have created"
