"""Runs the Alembic revisions, from a checkout or from an installed wheel, on a database that others may be using."""

from __future__ import annotations

import re
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import asyncpg
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from reactor.table import TableError, plain_query

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

LOCK = 0x7265_6163_746F_72  # "reactor": the advisory lock that serialises migrations
LOCK_WITHIN = 120.0  # seconds to wait for another migration
LOCK_TIMEOUT = "2s"  # a table in use is asked for this long: meanwhile everybody else waits behind us
TRIES = 10  # and this often
_AGAIN = {"55P03", "40P01"}  # lock not available, deadlock
_HERE = Path(__file__).parent


class MigrationError(Exception):
    """The migrations could not be run; one line that says why."""


def home(folder: str) -> Path:
    """Where `alembic` and `sql` are: inside the installed package, else at the top of the checkout."""
    inside = _HERE / folder
    return inside if inside.is_dir() else _HERE.parent / folder


async def upgrade(dsn: str, *, table: str = "tokens_s0") -> None:
    """Create or complete the tables. Harmless again, and at once from several places. Raises MigrationError."""

    def work(connection: Connection) -> None:
        command.upgrade(_config(connection, table), "head")
        if not (found(connection, table) or {"triggered": False})["triggered"]:
            told = "the migrations were run for another table, or before it was made anew"
            raise MigrationError(f"{table}: {told}; run reactor migrate --down for that table, then reactor migrate")

    await patiently(dsn, work)


async def downgrade(dsn: str, *, table: str = "tokens_s0") -> None:
    """Remove what the migrations added, and nothing else. Raises MigrationError."""

    def work(connection: Connection) -> None:
        command.downgrade(_config(connection, table), "base")
        connection.execute(text("DROP TABLE IF EXISTS reactor.alembic_version"))
        connection.execute(text("DROP SCHEMA reactor"))

    await patiently(dsn, work)


def found(connection: Connection, table: str) -> Mapping[str, Any] | None:
    """What `queries/discover.sql` tells of the tokens table; None where there is none."""
    row = connection.exec_driver_sql(plain_query("discover"), (table,)).mappings().first()
    return dict(row) if row is not None else None


def place(connection: Connection, table: str) -> tuple[str, str]:
    """Schema and name of the tokens table, or those that it gets. Raises MigrationError."""
    if there := found(connection, table):
        return there["schema"], there["name"]
    schema, _, name = table.rpartition(".")
    if any(len(part.encode()) > 63 for part in (schema, name)):
        raise MigrationError(f"{table}: a name in PostgreSQL has at most 63 bytes")
    schema = schema or connection.scalar(text("SELECT current_schema()"))
    if schema is None:
        raise MigrationError("the search path names no schema that exists, so there is nowhere to create the tables")
    return schema, name


async def patiently(dsn: str, work: Callable[[Connection], None]) -> None:
    """Do `work` while no other migration runs, again where the table was in use. Raises MigrationError."""
    for tries_left in reversed(range(TRIES)):
        try:
            await _alone(dsn, work)
        except DBAPIError as error:
            if _state(error) not in _AGAIN or not tries_left:
                raise MigrationError(_line(error)) from error
            await anyio.sleep(0.2 * (TRIES - tries_left))
        except (SQLAlchemyError, CommandError, TableError) as error:
            raise MigrationError(_line(error)) from error
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
            raise MigrationError(f"cannot reach the database: {_line(error)}") from error
        else:
            return


async def _alone(dsn: str, work: Callable[[Connection], None]) -> None:
    settings = {"application_name": "reactor migrate", "lock_timeout": LOCK_TIMEOUT, "statement_timeout": "0"}
    connect = partial(asyncpg.connect, dsn, timeout=10, server_settings=settings)
    engine = create_async_engine("postgresql+asyncpg://", poolclass=NullPool, async_creator=connect)
    try:
        async with engine.connect() as connection:
            await _lock(connection)
            # Before Alembic looks for its table; asked first, because IF NOT EXISTS needs the privilege all the same.
            if await connection.scalar(text("SELECT to_regnamespace('reactor') IS NULL")):
                await connection.execute(text("CREATE SCHEMA reactor"))
            await connection.commit()
            await connection.run_sync(work)
            await connection.commit()
    finally:
        await engine.dispose()


async def _lock(connection: AsyncConnection) -> None:
    """Wait for our turn by asking: a waiter in pg_advisory_lock holds a snapshot, which blocks a concurrent index."""
    deadline = time.monotonic() + LOCK_WITHIN
    while not await connection.scalar(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": LOCK}):
        await connection.commit()
        if time.monotonic() > deadline:
            raise MigrationError("another migration is running, and does not end")
        await anyio.sleep(0.05)
    await connection.commit()


def _config(connection: Connection, table: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(home("alembic")).replace("%", "%%"))
    config.attributes["connection"] = connection
    config.attributes["table"] = table
    return config


def _state(error: DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)


def _line(error: Exception) -> str:
    if isinstance(error, DBAPIError) and _state(error) in _AGAIN:
        return "the tokens table is in use by a long transaction; try again later"
    said = re.sub(r"^<class '[^']*'>: ", "", str(getattr(error, "orig", None) or error))
    return said.split("\n")[0] or type(error).__name__
