"""Runs the Alembic revisions, from a checkout or from an installed wheel, on a database that others may be using."""

from __future__ import annotations

import re
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import asyncpg
from alembic import command
from alembic.config import Config
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

LOCK = 0x7265_6163_746F_72  # "reactor": the advisory lock that serialises migrations
LOCK_WITHIN = 120.0  # seconds to wait for another migration
LOCKED, DEADLOCK = "55P03", "40P01"
TRIES = 10  # a table in use is asked for this often, 2 s each
_HERE = Path(__file__).parent


class MigrationError(Exception):
    """The migrations could not be run; one line that says why."""


def home(folder: str) -> Path:
    """Where `alembic` and `sql` are: inside the installed package, else at the top of the checkout."""
    inside = _HERE / folder
    return inside if inside.is_dir() else _HERE.parent / folder


async def upgrade(dsn: str, *, table: str = "tokens_s0") -> None:
    """Create or complete the tables. Harmless again, and at once from several places. Raises MigrationError."""
    await _patiently(dsn, lambda connection: command.upgrade(_config(connection, table), "head"))


async def downgrade(dsn: str, *, table: str = "tokens_s0") -> None:
    """Remove what the migrations added, and nothing else. Raises MigrationError."""

    def work(connection: Connection) -> None:
        command.downgrade(_config(connection, table), "base")
        connection.execute(text("DROP TABLE IF EXISTS reactor.alembic_version"))
        connection.execute(text("DROP SCHEMA reactor"))

    await _patiently(dsn, work)


async def _patiently(dsn: str, work: Callable[[Connection], None]) -> None:
    for attempt in range(1, TRIES + 1):
        try:
            await alone(dsn, work)
        except DBAPIError as error:
            if _state(error) not in {LOCKED, DEADLOCK} or attempt == TRIES:
                raise MigrationError(_line(error)) from error
            await anyio.sleep(0.2 * attempt)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
            raise MigrationError(f"cannot reach the database: {_line(error)}") from error
        else:
            return


async def alone(dsn: str, work: Callable[[Connection], None]) -> None:
    """Do `work` on one direct connection, while no other migration runs."""
    settings = {"application_name": "reactor migrate", "lock_timeout": "2s", "statement_timeout": "0"}
    connect = partial(asyncpg.connect, dsn, timeout=10, server_settings=settings)
    engine = create_async_engine("postgresql+asyncpg://", poolclass=NullPool, async_creator=connect)
    try:
        async with engine.connect() as connection:
            await _lock(connection)
            await connection.execute(text("CREATE SCHEMA IF NOT EXISTS reactor"))  # before Alembic looks for its table
            await connection.commit()
            await connection.run_sync(work)
            await connection.commit()
    finally:
        await engine.dispose()


async def _lock(connection: AsyncConnection) -> None:
    """Wait for our turn by asking: a waiter in pg_advisory_lock holds a snapshot, which blocks a concurrent index."""
    deadline = time.monotonic() + LOCK_WITHIN
    while not (await connection.execute(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": LOCK})).scalar():
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
    original = getattr(error, "orig", None) or error
    said = re.sub(r"^<class '[^']*'>: ", "", str(original)).split("\n")[0]
    if isinstance(error, DBAPIError) and _state(error) == LOCKED:
        return "the tokens table is in use by a long transaction; try again later"
    return said or type(error).__name__
