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
    """Create or complete the tables. Harmless again, and at once from several places. Raises MigrationError."""

    def work(connection: Connection) -> None:
        there = found(connection, table)
        if not (there and there["migrated"]) and (_marked(connection) or _revision(connection)):
            raise MigrationError(_elsewhere(connection, table))
        connection.commit()  # Alembic begins its own
        command.upgrade(_config(connection, table), "head")
        repair(connection, *place(connection, table))
        connection.execute(text("INSERT INTO reactor.intake DEFAULT VALUES ON CONFLICT DO NOTHING"))
        there = found(connection, table)
        if not (there and there["triggers_enabled"]):
            raise MigrationError(f"{table}: its triggers are not enabled, and cannot be: mints would wake nobody")

    await run_alone(dsn, work, direct=direct)


async def downgrade(dsn: str, *, table: str = "tokens_s0", direct: bool = False, with_rows: bool = False) -> None:
    """Remove what the migrations added, and nothing else; a table that still has rows only `with_rows`.

    Raises MigrationError.
    """

    def work(connection: Connection) -> None:
        marked = _marked(connection)
        if marked and place(connection, table) not in marked:
            raise MigrationError(_elsewhere(connection, table))
        config = _config(connection, table)
        config.attributes["with_rows"] = with_rows
        refuse_to_lose_rows(connection, config)
        connection.commit()  # Alembic begins its own
        command.downgrade(config, "base")
        connection.execute(text("DROP TABLE IF EXISTS reactor.alembic_version"))
        connection.execute(text("DROP SCHEMA reactor"))

    await run_alone(dsn, work, direct=direct)


def found(connection: Connection, table: str) -> Mapping[str, Any] | None:
    """What `queries/discover.sql` tells of the tokens table; None where there is none. Raises TableError."""
    rows = connection.exec_driver_sql(plain_query("discover"), (table,)).mappings().all()
    return only([dict(row) for row in rows], table)


def place(connection: Connection, table: str) -> tuple[str, str]:
    """Schema and name of the tokens table, or those that it gets. Raises MigrationError."""
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
    """Raise TableError where the authors beside the tokens are a stranger's."""
    owner = connection.exec_driver_sql(plain_query("authors"), (schema, name)).scalar()
    refuse_authors_of(owner, schema)


def made(connection: Connection, table: str) -> list[tuple[str, str]]:
    """Schema and name of the tables that the migrations made: of the tokens and the authors beside them."""
    schema, name = place(connection, table)
    rows = connection.exec_driver_sql(plain_query("made"), (schema, name)).mappings().all()
    return [(row["schema"], row["name"]) for row in rows]


def refuse_to_lose_rows(connection: Connection, config: Config) -> None:
    """Raise MigrationError where a downgrade would drop tables with rows, and was not told to."""
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
    """Why there is nothing of ours on the table, although all revisions were run."""
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
