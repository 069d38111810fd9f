"""Removes from a tokens table what the migrations added: the table itself, if they made it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from reactor.database.names import is_ours, quoted
from reactor.database.table import plain_query
from reactor.migrations.indexes import described_indexes
from reactor.migrations.migration_lock import INDEX_LOCK_TIMEOUT, LOCK_TIMEOUT, MigrationError, autocommit

if TYPE_CHECKING:
    from sqlalchemy import Connection

    Place = tuple[str, str]  # schema and name

HISTORY = ("reactor", "attempts")  # it goes with the last tokens table


def remove(connection: Connection, place: Place, *, with_rows: bool) -> list[str]:
    """Remove what was added to the table; return what was removed, in words.

    Raises MigrationError if rows or images would be lost, unless `with_rows`.
    """
    added = _added_columns(connection, place)
    tables = made(connection, place)
    if not with_rows:
        last = [HISTORY] if marked(connection) == [place] and _has_history(connection) else []
        _refuse_to_lose(connection, place, [*tables, *last], images="image_url" in added and place not in tables)
    removed = [f"table {'.'.join(names)}" for names in tables]
    if place not in tables:
        removed += _strip(connection, place, added, with_rows=with_rows)
    connection.commit()
    if tables:
        ours = ", ".join(quoted(*names) for names in tables)
        connection.exec_driver_sql(f"LOCK TABLE {ours} IN ACCESS EXCLUSIVE MODE")
        if not with_rows:  # a mint that came meanwhile counts
            _refuse_to_lose(connection, place, tables, images=False)
        connection.exec_driver_sql(f"DROP TABLE {ours}")
        connection.commit()
    return removed


def refuse_to_lose_history(connection: Connection) -> None:
    """Raise MigrationError if the history has rows, where no tokens table is left."""
    if _has_history(connection):
        _refuse_to_lose(connection, HISTORY, [HISTORY], images=False)


def _has_history(connection: Connection) -> bool:
    return bool(connection.exec_driver_sql("SELECT to_regclass('reactor.attempts') IS NOT NULL").scalar())


def marked(connection: Connection) -> list[Place]:
    """Schema and name of the tables that were migrated."""
    return [(row["schema"], row["name"]) for row in connection.exec_driver_sql(plain_query("marked")).mappings()]


def made(connection: Connection, place: Place) -> list[Place]:
    """Schema and name of each table that the migrations made for this one: the tokens, or the authors, or both."""
    rows = connection.exec_driver_sql(plain_query("made"), place).mappings().all()
    return [(row["schema"], row["name"]) for row in rows]


def _refuse_to_lose(connection: Connection, place: Place, tables: list[Place], *, images: bool) -> None:
    counts = {f"{'.'.join(names)} with": (_count(connection, names), "row") for names in tables}
    if images:
        counts[f"{'.'.join(place)}.image_url with"] = (
            _count(connection, place, "WHERE image_url IS NOT NULL"),
            "image",
        )
    held = [f"{what} {count:,} {unit}{'s' * (count > 1)}" for what, (count, unit) in counts.items() if count]
    if held:
        raise MigrationError(f"--down would drop {' and '.join(held)}; to lose them: reactor migrate --down --yes")


def _count(connection: Connection, names: Place, condition: str = "") -> int:
    statement = f"SELECT count(*) FROM {quoted(*names)} {condition}"  # noqa: S608  (quoted)
    return int(connection.exec_driver_sql(statement).scalar_one())


def _added_columns(connection: Connection, place: Place) -> list[str]:
    """The columns that the migrations added to a table of the host's."""
    shape = connection.exec_driver_sql(plain_query("shape"), place).mappings().one()
    if shape["kind"] != "r":
        return []
    return [name for name, facts in orjson.loads(shape["columns"]).items() if facts["ours"]]


def _strip(connection: Connection, place: Place, added: list[str], *, with_rows: bool) -> list[str]:
    """Remove triggers, indexes and columns from the host's table; return them, in words."""
    table = quoted(*place)
    triggers = [row["name"] for row in connection.exec_driver_sql(plain_query("triggers"), (table, "")).mappings()]
    indexes = [
        name for name, (_, _, rows) in sorted(described_indexes(connection, table).items()) if rows and is_ours(name)
    ]
    with autocommit(connection):
        for name in triggers:
            connection.exec_driver_sql(f"DROP TRIGGER {quoted(name)} ON {table}")
        connection.exec_driver_sql(f"SET lock_timeout = '{INDEX_LOCK_TIMEOUT}'")
        for name in indexes:
            connection.exec_driver_sql(f"DROP INDEX CONCURRENTLY {quoted(place[0], name)}")
        connection.exec_driver_sql(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
    if added:
        connection.exec_driver_sql(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        if not with_rows:  # an image that came meanwhile counts
            _refuse_to_lose(connection, place, [], images="image_url" in added)
        drops = ", ".join(f"DROP COLUMN {quoted(column)}" for column in added)
        connection.exec_driver_sql(f"ALTER TABLE {table} {drops}")
        connection.commit()
    return [
        *(f"trigger {name}" for name in triggers),
        *(f"index {name}" for name in indexes),
        *(f"column {name}" for name in added),
    ]
