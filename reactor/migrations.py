"""Runs the Alembic revisions, from a checkout or from an installed wheel."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic import command
from alembic.config import Config
from sqlalchemy import text

from reactor.table import plain_query
from reactor.turns import MigrationError, patiently

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

_HERE = Path(__file__).parent


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


def _config(connection: Connection, table: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(home("alembic")).replace("%", "%%"))
    config.attributes["connection"] = connection
    config.attributes["table"] = table
    return config
