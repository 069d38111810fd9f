"""Runs the Alembic revisions, from a checkout or from an installed wheel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from reactor.database.table import only, plain_query, quoted, refuse_authors_of
from reactor.migrations.migration_lock import MigrationError, run_alone
from reactor.migrations.triggers import home, repair

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection, TextClause


async def upgrade(dsn: str, *, table: str = "tokens_s0", direct: bool = False) -> None:
    """Create or complete the tables. May be run again, and in several places at once. Raises MigrationError."""

    def work(connection: Connection) -> None:
        there = found(connection, table)
        if not (there and there["migrated"]) and (_marked(connection) or _revision(connection)):
            raise MigrationError(_elsewhere(connection, table))
        connection.commit()  # Alembic begins its own transaction
        command.upgrade(_config(connection, table), "head")
        repair(connection, *place(connection, table))
        connection.execute(text("INSERT INTO reactor.intake DEFAULT VALUES ON CONFLICT DO NOTHING"))
        there = found(connection, table)
        if not (there and there["triggers_enabled"]):
            raise MigrationError(f"{table}: its triggers could not be enabled: mints would wake no worker")

    await run_alone(dsn, work, direct=direct)


async def downgrade(dsn: str, *, table: str = "tokens_s0", direct: bool = False, with_rows: bool = False) -> None:
    """Remove what the migrations added, and nothing else. Raises MigrationError.

    It refuses to drop a table that still has rows, unless `with_rows`.
    """

    def work(connection: Connection) -> None:
        marked = _marked(connection)
        if marked and place(connection, table) not in marked:
            raise MigrationError(_elsewhere(connection, table))
        config = _config(connection, table)
        config.attributes["with_rows"] = with_rows
        refuse_to_lose_rows(connection, config)
        connection.commit()  # Alembic begins its own transaction
        command.downgrade(config, "base")
        connection.execute(text("DROP TABLE IF EXISTS reactor.alembic_version"))
        connection.execute(text("DROP SCHEMA reactor"))

    await run_alone(dsn, work, direct=direct)


def found(connection: Connection, table: str) -> Mapping[str, Any] | None:
    """The tokens table as `queries/discover.sql` describes it; None if there is none. Raises TableError."""
    rows = connection.exec_driver_sql(plain_query("discover"), (table,)).mappings().all()
    return only([dict(row) for row in rows], table)


def place(connection: Connection, table: str) -> tuple[str, str]:
    """Schema and name of the tokens table, or those that it will get. Raises MigrationError."""
    if there := found(connection, table):
        return there["schema"], there["name"]
    schema, _, name = table.rpartition(".")
    if any(len(part.encode()) > 63 for part in (schema, name)):
        raise MigrationError(f"{table}: a name in PostgreSQL has at most 63 bytes")
    if not schema and not (schema := connection.exec_driver_sql(plain_query("home")).scalar() or ""):
        raise MigrationError(
            f"the search path names no schema that exists; say where the tables go, as in TOKENS_TABLE=public.{name}"
        )
    return schema, name


def refuse_strange_authors(connection: Connection, schema: str, name: str) -> None:
    """Raise TableError if the authors table beside the tokens belongs to a stranger."""
    owner = connection.exec_driver_sql(plain_query("authors"), (schema, name)).scalar()
    refuse_authors_of(owner, schema)


def made(connection: Connection, table: str) -> list[tuple[str, str]]:
    """Schema and name of each table that the migrations made: the tokens, or the authors beside them, or both."""
    schema, name = place(connection, table)
    rows = connection.exec_driver_sql(plain_query("made"), (schema, name)).mappings().all()
    return [(row["schema"], row["name"]) for row in rows]


def refuse_to_lose_rows(connection: Connection, config: Config) -> None:
    """Raise MigrationError if a downgrade would drop tables with rows, without `with_rows`."""
    if config.attributes.get("with_rows"):
        return
    counts = {names: connection.scalar(_count(names)) for names in made(connection, config.attributes["table"])}
    full = {".".join(names): count for names, count in counts.items() if count}
    if full:
        held = " and ".join(f"{table} with {count:,} row{'s' * (count > 1)}" for table, count in full.items())
        raise MigrationError(f"--down would drop {held}; to lose them: reactor migrate --down --yes")


def _count(names: tuple[str, str]) -> TextClause:
    return text(f"SELECT count(*) FROM {quoted(*names)}")  # noqa: S608  (quoted)


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection, opts={"version_table_schema": "reactor"}).get_current_revision()


def _marked(connection: Connection) -> list[tuple[str, str]]:
    """Schema and name of the tables that were migrated."""
    return [(row["schema"], row["name"]) for row in connection.exec_driver_sql(plain_query("marked")).mappings()]


def _elsewhere(connection: Connection, table: str) -> str:
    """Why the table has nothing of ours, although revisions were run."""
    others = [".".join(names) for names in _marked(connection)]
    if not others:
        return f"{table}: the migrations were run before it was made anew; run reactor migrate --down, then again"
    which = f"TOKENS_TABLE={others[0]} reactor migrate --down"
    return f"{table}: the migrations were run for {', '.join(others)}; keep to it, or first run {which}"


def _config(connection: Connection, table: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(home("alembic")).replace("%", "%%"))
    config.attributes["connection"] = connection
    config.attributes["table"] = table
    return config
