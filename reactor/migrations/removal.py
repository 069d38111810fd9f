"""Removes from a tokens table what the migrations added: the table itself, if they made it.

Writers wait for the lock of a DROP, and for no more: rows and images are counted before it. What came meanwhile is
looked for under the lock, where it is found at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from reactor.database.names import IMAGES, index_name, is_ours, quoted
from reactor.database.table import plain_query
from reactor.migrations.indexes import described_indexes
from reactor.migrations.migration_lock import INDEX_LOCK_TIMEOUT, LOCK_TIMEOUT, MigrationError, autocommit
from reactor.migrations.survey import unmarked

if TYPE_CHECKING:
    from sqlalchemy import Connection

    Place = tuple[str, str]  # schema and name

# It holds the condition instead of a column, because a host's column may be too long for an index.
HAS_IMAGE = "((image_url IS NOT NULL)) WHERE image_url IS NOT NULL"
CAME_AND_WENT = "the tables were written to meanwhile; try again"
HISTORY = ("reactor", "attempts")  # it goes with the last tokens table


def remove(connection: Connection, place: Place, *, with_rows: bool) -> list[str]:
    """Remove what was added to the table; return what was removed, in words.

    Raises MigrationError if rows or images would be lost, unless `with_rows`.
    """
    added = _added_columns(connection, place)
    tables = made(connection, place)
    if not with_rows:
        last = [HISTORY] if {*marked(connection)} <= {place} and _has_history(connection) else []
        _refuse_to_lose(connection, place, [*tables, *last], images="image_url" in added and place not in tables)
    removed = [f"table {'.'.join(names)}" for names in tables]
    if place not in tables:
        removed += _strip(connection, place, added, with_rows=with_rows)
    connection.commit()
    if tables:
        ours = ", ".join(quoted(*names) for names in tables)
        connection.exec_driver_sql(f"LOCK TABLE {ours} IN ACCESS EXCLUSIVE MODE")
        if not with_rows and any(_holds(connection, names) for names in tables):
            connection.rollback()
            _refuse_to_lose(connection, place, tables, images=False)
            raise MigrationError(CAME_AND_WENT)
        connection.exec_driver_sql(f"DROP TABLE {ours}")
        connection.commit()
    return removed


def kept(connection: Connection, place: Place) -> list[str]:
    """The columns that may be ours, and stay because nothing marks them as ours."""
    shape = connection.exec_driver_sql(plain_query("shape"), place).mappings().one_or_none()
    return [] if shape is None else unmarked(dict(shape))


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
    return int(_asked(connection, "count(*)", names, condition))


def _holds(connection: Connection, names: Place, condition: str = "") -> bool:
    """Whether a table has such a row. It is asked under the table's lock, so the table itself is not searched."""
    connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
    return _asked(connection, "true", names, f"{condition} LIMIT 1") is not None


def _asked(connection: Connection, what: str, names: Place, condition: str) -> Any:
    statement = f"SELECT {what} FROM {quoted(*names)} {condition}"  # noqa: S608  (quoted)
    return connection.exec_driver_sql(statement).scalar()


def _added_columns(connection: Connection, place: Place) -> list[str]:
    """The columns that the migrations added to a table of the host's."""
    shape = connection.exec_driver_sql(plain_query("shape"), place).mappings().one()
    if shape["kind"] != "r":
        return []
    return [name for name, facts in orjson.loads(shape["columns"]).items() if facts["ours"]]


def _strip(connection: Connection, place: Place, added: list[str], *, with_rows: bool) -> list[str]:
    """Remove triggers, indexes and columns from the host's table; return them, in words."""
    table, images = quoted(*place), index_name(place[1], IMAGES)
    look = "image_url" in added and not with_rows
    triggers = [row["name"] for row in connection.exec_driver_sql(plain_query("triggers"), (table, "")).mappings()]
    there = described_indexes(connection, table)
    ready = look and images in there and there[images][0]  # by a try before, which did not get its lock
    indexes = [
        name
        for name, (_, _, rows) in sorted(there.items())
        if rows and is_ours(name) and not (ready and name == images)
    ]
    with autocommit(connection):
        for name in triggers:
            connection.exec_driver_sql(f"DROP TRIGGER {quoted(name)} ON {table}")
        connection.exec_driver_sql(f"SET lock_timeout = '{INDEX_LOCK_TIMEOUT}'")
        for name in indexes:
            connection.exec_driver_sql(f"DROP INDEX CONCURRENTLY {quoted(place[0], name)}")
        if look and not ready:
            connection.exec_driver_sql(f"CREATE INDEX CONCURRENTLY {quoted(images)} ON {table} {HAS_IMAGE}")
        connection.exec_driver_sql(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
    if added:
        _drop_columns(connection, place, added, images=images if look else None)
    return [
        *(f"trigger {name}" for name in triggers),
        *(f"index {name}" for name in indexes if name != images),
        *(f"column {name}" for name in added),
    ]


def _drop_columns(connection: Connection, place: Place, added: list[str], *, images: str | None) -> None:
    """Drop the columns; `images`, the index by which an image that came meanwhile is found, goes with image_url."""
    table = quoted(*place)
    connection.exec_driver_sql(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
    if images and _holds(connection, place, "WHERE image_url IS NOT NULL"):
        connection.rollback()
        with autocommit(connection):
            connection.exec_driver_sql(f"DROP INDEX CONCURRENTLY {quoted(place[0], images)}")
        _refuse_to_lose(connection, place, [], images=True)
        raise MigrationError(CAME_AND_WENT)
    drops = ", ".join(f"DROP COLUMN {quoted(column)}" for column in added)
    connection.exec_driver_sql(f"ALTER TABLE {table} {drops}")
    connection.commit()
