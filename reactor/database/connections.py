"""Opens connections to PostgreSQL, with our settings, and defines the errors that their statements raise.

A worker has a connection per role, not one pool: a claim must not queue behind a renewal. A statement whose
connection broke or whose await was cancelled has an unknown outcome (45 % of cancelled autocommit UPDATEs had
committed when we measured), so such a connection is terminated, never used again. The error says what is known:
after ConnectionLostError the statement may have committed; after RolledBackError or RowRefusedError it did not.
"""

from __future__ import annotations

import ssl
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg

from reactor.database.driver_words import kind_and_message
from reactor.database.poolers import behind_a_pooler
from reactor.database.reach import EncodingError, reach
from reactor.database.sqlstates import NEVER_HEALS
from reactor.database.target import target_of
from reactor.database.timings import CONNECTION_TIMINGS
from reactor.database.tls import untrusted
from reactor.secret import Secret
from reactor.text.messages import message_of, of_connecting, unreachable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from reactor.database.target import Target
    from reactor.database.timings import ConnectionTimings

T = TypeVar("T")

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

    told_elsewhere = False  # another role of the worker tells it


class ConnectionLostError(DatabaseError):
    """The connection was lost or could not be made: the statement may have committed or not."""


class ReadOnlyError(ConnectionLostError):
    """The database takes no writes: an operator froze it, or it is a standby. We wait, as for one that is away."""

    def __init__(self) -> None:
        super().__init__("the database is read-only")


class TooManyConnectionsError(ConnectionLostError):
    """The server, the database or the role has no connection left."""


class LoginRefusedError(ConnectionLostError):
    """The server refuses our role or its password. We wait, because a rotation of the password may be under way."""


class RefusedError(ConnectionLostError):
    """The server cannot serve us as long as the URL or the database stays as it is, so waiting does not help.

    A database that does not exist (3D000) is no such case, because it may be made later, as when a stack starts.
    """


class UntrustedServerError(RefusedError):
    """The server's certificate is another host's, or from an authority that the URL does not name: see tls.py."""


class RolledBackError(DatabaseError):
    """The server refused the statement or rolled it back: deadlock, timeout, disk full, a missing privilege."""


class DeniedError(RolledBackError):
    """Our role lacks a privilege. One part of the worker (engine/rights.py) finds out which, and logs it."""

    told_elsewhere = True


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
    dsn: str | Secret, *, name: str, pooled: bool = False, timings: ConnectionTimings = CONNECTION_TIMINGS
) -> tuple[asyncpg.Connection[Any], bool]:
    """Open one connection; return it, and whether it is pooled.

    A transaction pooler gets no startup parameters, because it refuses or ignores those that it does not know, and no
    prepared statements, because its clients share them. Raises as `log_in` does.
    """
    return await log_in(dsn, partial(_open, name=name, pooled=pooled, timings=timings))


async def log_in(dsn: str | Secret, connect: Callable[[Target], Awaitable[T]]) -> T:
    """Connect to what the URL names. Raises ConnectionLostError if no connection can be made.

    A password that the server refuses is read again where it came from, because it may have been rotated.
    """
    secret = Secret.of(dsn)
    tried = secret.value
    try:
        return await _connected(secret, connect)
    except LoginRefusedError:
        if not await secret.renewed(tried):
            raise
    return await _connected(secret, connect)


async def _connected(secret: Secret, connect: Callable[[Target], Awaitable[T]]) -> T:
    try:
        target = target_of(secret.value)
        for password in target.passwords:
            secret.tell(password)
        return await connect(target)
    except EncodingError as error:
        raise RefusedError(message_of(error)) from error
    except ssl.SSLCertVerificationError as error:
        reason = untrusted(error)
        if reason is None or len(target.hosts) > 1:  # of several hosts another may come back
            raise _classified(error) from error
        raise UntrustedServerError(reason) from error
    except asyncpg.TargetServerAttributeNotMatched as error:
        raise ReadOnlyError from error
    except asyncpg.TooManyConnectionsError as error:
        raise TooManyConnectionsError(kind_and_message(error)) from error
    except ValueError as error:
        raise ConnectionLostError(f"{type(error).__name__}: {of_connecting(error)}") from error
    except (*LOST, asyncpg.PostgresError) as error:
        raise _classified(error) from error


def _classified(error: Exception) -> ConnectionLostError:
    state, said = getattr(error, "sqlstate", None) or "", kind_and_message(error)
    # An older PgBouncer has one SQLSTATE for all that it refuses, and never translates its words.
    words = said if state == "08P01" else ""
    if state in NEVER_HEALS or "startup parameter" in words:
        return RefusedError(
            f"the server refuses a parameter of the connection ({said}): change `options` in the URL, or, if it is not"
            " in there, the server is older than PostgreSQL 14"
        )
    if state.startswith("28") or "authentication" in words:
        return LoginRefusedError(said)
    return ConnectionLostError(said)


def why_unreachable(error: ConnectionLostError) -> str:
    """The line for a user; not redacted. It has the driver's message, unless ours says what to do."""
    ours = isinstance(error, ReadOnlyError | RefusedError)
    return message_of(error) if ours else unreachable(error.__cause__ or error)


async def _open(
    target: Target, *, name: str, pooled: bool, timings: ConnectionTimings
) -> tuple[asyncpg.Connection[Any], bool]:
    named = {"application_name": name}
    limits = {
        "statement_timeout": f"{timings.statement_timeout:g}s",
        "lock_timeout": f"{timings.lock_timeout:g}s",
    }
    bounds = {"within": timings.connect_within, "command_timeout": timings.answer_within}
    if not pooled:
        with suppress(asyncpg.ProtocolViolationError):  # "unsupported startup parameter": a pooler after all
            connection = await reach(target, **bounds, server_settings=named | limits | SERVER_SETTINGS)
            if not await behind_a_pooler(connection):
                return connection, False
    return await reach(target, **bounds, server_settings=named, statement_cache_size=0), True


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
