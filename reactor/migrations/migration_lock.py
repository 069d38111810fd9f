"""Runs one migration at a time, on a connection of its own, in a database that may be in use."""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import asyncpg
from alembic.util import CommandError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from reactor.database.connections import ConnectionLostError, log_in, why_unreachable
from reactor.database.poolers import behind_a_pooler
from reactor.database.reach import reach
from reactor.database.search_path import pin
from reactor.database.table import TableError, plain_query
from reactor.text.messages import unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

    from reactor.secret import Secret

LOCK = 0x7265_6163_746F_72  # "reactor": the advisory lock that serialises migrations
LOCK_TIMEOUT = "500ms"  # for the lock of a table in use: meanwhile all other sessions wait behind us
INDEX_LOCK_TIMEOUT = "60s"  # building an index waits for older transactions, and nobody waits for it
# Between transactions a pooler may take the session away, which holds our lock and our settings.
POOLED = (
    "DATABASE_URL is a pooler's, and migrations need a connection of their own: set LISTEN_DATABASE_URL to a direct one"
)
_AGAIN = {"55P03", "40P01"}  # lock not available, deadlock
_DRIVER = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError)


class MigrationError(Exception):
    """The migrations could not be run; the message is one line that says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a migration waits for the database and for others. Tests wait for less."""

    connect_within: float = 10.0  # seconds
    turn_within: float = 120.0  # seconds, for another migration
    lock_timeout: str = LOCK_TIMEOUT
    tries: int = 30  # for that lock


PATIENCE = Patience()


async def run_alone(
    dsn: str | Secret, work: Callable[[Connection], None], *, direct: bool = False, patience: Patience = PATIENCE
) -> None:
    """Do `work` while no other migration runs, and retry while the table is in use. Raises MigrationError.

    `direct`: the caller knows that the DSN is not a pooler's; otherwise we check.
    """
    for tries_left in reversed(range(patience.tries)):
        try:
            await _run_once(dsn, work, direct=direct, patience=patience)
        except DBAPIError as error:
            if _state(error) not in _AGAIN or not tries_left:
                raise MigrationError(one_line(error)) from error
            await anyio.sleep(min(2.0, 0.2 * (patience.tries - tries_left)))
        except (SQLAlchemyError, CommandError, TableError) as error:
            raise MigrationError(one_line(error)) from error
        except _DRIVER as error:
            raise MigrationError(unreachable(error)) from error
        else:
            return


async def _run_once(dsn: str | Secret, work: Callable[[Connection], None], *, direct: bool, patience: Patience) -> None:
    connect = partial(_connect, dsn, direct=direct, patience=patience)
    engine = create_async_engine("postgresql+asyncpg://", poolclass=NullPool, async_creator=connect)
    try:
        async with engine.connect() as connection:
            await _lock(connection, patience.turn_within)
            await connection.run_sync(work)
            await connection.commit()
    finally:
        await engine.dispose()


async def _connect(dsn: str | Secret, *, direct: bool, patience: Patience) -> asyncpg.Connection[Any]:
    named = {"application_name": "reactor migrate"}
    connect = partial(reach, within=patience.connect_within, statement_cache_size=0, server_settings=named)
    try:
        connection = await log_in(dsn, connect)
    except ConnectionLostError as error:
        raise MigrationError(why_unreachable(error)) from error
    try:
        if not direct:
            await _refuse_a_pooler(connection)
        await pin(connection, pooled=False)
        (safe,) = await connection.fetch(plain_query("path"), None)
        await connection.fetch(plain_query("set_path"), safe["path"])
        # Not startup parameters, because PgBouncer refuses them.
        await connection.fetch(plain_query("unlimited"), patience.lock_timeout)
    except BaseException:
        connection.terminate()  # no other code has it yet, and left open it keeps the loop from closing
        raise
    return connection


async def _refuse_a_pooler(connection: asyncpg.Connection[Any]) -> None:
    if await behind_a_pooler(connection):
        raise MigrationError(POOLED)


async def _lock(connection: AsyncConnection, within: float) -> None:
    """Wait for our turn by polling: a waiter in pg_advisory_lock holds a snapshot, which blocks a concurrent index."""
    deadline = time.monotonic() + within
    while not await connection.scalar(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": LOCK}):
        await connection.commit()
        if time.monotonic() > deadline:
            strangers = (await connection.exec_driver_sql(plain_query("migrating"), (LOCK,))).scalar()
            who = f"{strangers} holds the lock of migrations, and runs none: end that session" if strangers else None
            raise MigrationError(who or "another migration is running, and does not end")
        await anyio.sleep(0.05)
    await connection.commit()


@contextmanager
def autocommit(connection: Connection) -> Iterator[None]:
    """Commit what was done, then each statement by itself, as CONCURRENTLY asks for."""
    connection.commit()
    connection.execution_options(isolation_level="AUTOCOMMIT")
    try:
        yield
    finally:
        connection.rollback()
        connection.execution_options(isolation_level="READ COMMITTED")


def _state(error: DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)


def is_denied(error: DBAPIError) -> bool:
    """Whether the role lacks a right."""
    return _state(error) == "42501"


def one_line(error: Exception) -> str:
    """The error as one line, not redacted."""
    if isinstance(error, DBAPIError) and _state(error) in _AGAIN:
        return "the tokens table is in use by a long transaction; try again later"
    said = re.sub(r"^<class '[^']*'>: ", "", str(getattr(error, "orig", None) or error))
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return unreachable(Exception(said))
    return said.split("\n")[0] or type(error).__name__
