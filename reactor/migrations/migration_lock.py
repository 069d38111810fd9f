"""Runs one migration at a time, on a connection of its own, in a database that may be in use."""

from __future__ import annotations

import re
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import asyncpg
from alembic.util import CommandError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from reactor.database.search_path import pin
from reactor.database.table import TableError, plain_query
from reactor.text.messages import unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

LOCK = 0x7265_6163_746F_72  # "reactor": the advisory lock that serialises migrations
CONNECT_WITHIN = 10.0  # seconds
LOCK_WITHIN = 120.0  # seconds to wait for another migration
LOCK_TIMEOUT = "2s"  # for the lock of a table in use: meanwhile all other sessions wait behind us
TRIES = 10  # for that lock
# Between transactions a pooler may take the session away, which holds our lock and our settings.
POOLED = (
    "DATABASE_URL is a pooler's, and migrations need a connection of their own: set LISTEN_DATABASE_URL to a direct one"
)
_AGAIN = {"55P03", "40P01"}  # lock not available, deadlock
_DRIVER = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError)


class MigrationError(Exception):
    """The migrations could not be run; the message is one line that says why."""


async def run_alone(dsn: str, work: Callable[[Connection], None], *, direct: bool = False) -> None:
    """Do `work` while no other migration runs, and retry while the table is in use. Raises MigrationError.

    `direct`: the caller knows that the DSN is not a pooler's; otherwise we check.
    """
    for tries_left in reversed(range(TRIES)):
        try:
            await _run_once(dsn, work, direct=direct)
        except DBAPIError as error:
            if _state(error) not in _AGAIN or not tries_left:
                raise MigrationError(_one_line(error)) from error
            await anyio.sleep(0.2 * (TRIES - tries_left))
        except (SQLAlchemyError, CommandError, TableError) as error:
            raise MigrationError(_one_line(error)) from error
        except _DRIVER as error:
            raise MigrationError(unreachable(error)) from error
        else:
            return


async def _run_once(dsn: str, work: Callable[[Connection], None], *, direct: bool) -> None:
    connect = partial(_connect, dsn, direct=direct)
    engine = create_async_engine("postgresql+asyncpg://", poolclass=NullPool, async_creator=connect)
    try:
        async with engine.connect() as connection:
            await _lock(connection)
            await _make_schema(connection)
            await connection.run_sync(work)
            await connection.commit()
    finally:
        await engine.dispose()


async def _make_schema(connection: AsyncConnection) -> None:
    """Make schema reactor before Alembic looks into it. Raises MigrationError if a stranger has made it already."""
    owner = (await connection.exec_driver_sql(plain_query("schema_owner"))).scalar()
    if owner is not None:
        raise MigrationError(
            f"schema reactor belongs to {owner}, whose code would run as yours: DROP SCHEMA reactor if nothing of yours"
            f" is in it; if you trust {owner}, ALTER SCHEMA reactor OWNER TO CURRENT_USER"
        )
    # Asked first, because IF NOT EXISTS needs the privilege even if the schema exists.
    if await connection.scalar(text("SELECT to_regnamespace('reactor') IS NULL")):
        await connection.execute(text("CREATE SCHEMA reactor"))
    await connection.commit()


async def _connect(dsn: str, *, direct: bool) -> asyncpg.Connection[Any]:
    named = {"application_name": "reactor migrate"}
    try:
        connection = await asyncpg.connect(dsn, timeout=CONNECT_WITHIN, statement_cache_size=0, server_settings=named)
    except _DRIVER as error:
        raise MigrationError(unreachable(error)) from error  # here, because SQLAlchemy would wrap some
    try:
        if not direct:
            await _refuse_a_pooler(connection)
        await pin(connection, pooled=False)
        (safe,) = await connection.fetch(plain_query("path"), None)
        await connection.fetch(plain_query("set_path"), safe["path"])
        # Not startup parameters, because PgBouncer refuses them.
        await connection.fetch(plain_query("unlimited"), LOCK_TIMEOUT)
    except BaseException:
        connection.terminate()  # no other code has it yet, and left open it keeps the loop from closing
        raise
    return connection


async def _refuse_a_pooler(connection: asyncpg.Connection[Any]) -> None:
    """Raise MigrationError if a pooler is in between: the backend that answers is not the one we connected to."""
    async with connection.transaction():
        if await connection.fetchval("SELECT pg_catalog.pg_backend_pid()") != connection.get_server_pid():
            raise MigrationError(POOLED)


async def _lock(connection: AsyncConnection) -> None:
    """Wait for our turn by polling: a waiter in pg_advisory_lock holds a snapshot, which blocks a concurrent index."""
    deadline = time.monotonic() + LOCK_WITHIN
    while not await connection.scalar(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": LOCK}):
        await connection.commit()
        if time.monotonic() > deadline:
            strangers = (await connection.exec_driver_sql(plain_query("migrating"), (LOCK,))).scalar()
            who = f"{strangers} holds the lock of migrations, and runs none: end that session" if strangers else None
            raise MigrationError(who or "another migration is running, and does not end")
        await anyio.sleep(0.05)
    await connection.commit()


def _state(error: DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)


def _one_line(error: Exception) -> str:
    if isinstance(error, DBAPIError) and _state(error) in _AGAIN:
        return "the tokens table is in use by a long transaction; try again later"
    said = re.sub(r"^<class '[^']*'>: ", "", str(getattr(error, "orig", None) or error))
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return unreachable(Exception(said))
    return said.split("\n")[0] or type(error).__name__
