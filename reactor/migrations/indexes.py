"""The indexes of a tokens table: as they should be, and as the catalogue describes those that are there.

Both are compared by reading alone, so `reactor migrate --plan` needs no right to create anything.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from reactor.database.names import index_name, quoted
from reactor.database.table import plain_query

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from reactor.database.table import TokensTable

    Described = tuple[bool, list[str], str | None]  # whether an index is valid, its columns and its bare predicate

# The server writes a cast after a value or a column, brackets around all, and quotes only where a name needs them.
_ADDED = re.compile(r"""::.+?(?= AND | ?[=<]|\)|$)|[()'"\s]""")


def indexes(table: TokensTable) -> dict[str, str]:
    """Our indexes: the columns and the predicate of each, as CREATE INDEX takes them."""
    return {
        name: f"({', '.join(map(quoted, columns))}) WHERE {predicate}"
        for name, (columns, predicate) in _definitions(table).items()
    }


def wanted_indexes(table: TokensTable) -> dict[str, Described]:
    """Our indexes by name, as `described_indexes` describes them if they are as they should be."""
    return {
        index_name(table.name, name): (True, columns, bare(predicate))
        for name, (columns, predicate) in _definitions(table).items()
    }


def described_indexes(connection: Connection, relation: str) -> dict[str, Described]:
    """Each index of a table by its name: whether it is valid, its columns and its bare predicate."""
    rows = connection.exec_driver_sql(plain_query("indexes"), (relation,)).mappings().all()
    return {
        row["name"]: (row["valid"], list(row["columns"]), row["predicate"] and bare(row["predicate"])) for row in rows
    }


def bare(predicate: str) -> str:
    """A predicate without what the server adds when it writes one: casts, brackets, quotes and spaces."""
    return _ADDED.sub("", predicate)


def _definitions(table: TokensTable) -> dict[str, tuple[list[str], str]]:
    """The columns and the predicate of each index. None mentions the lease, so that renewals stay HOT."""
    key, order = table.key.name, table.order.name
    waiting = f"status = {table.labels['detected']} AND generation_due_at IS"
    return {
        "fresh": ([key] if order == key else [order, key], f"{waiting} NULL AND {table.claimable}"),
        "retries": (["generation_due_at", key], f"{waiting} NOT NULL AND {table.claimable}"),
        "held": ([key], f"status = {table.labels['generating']}"),
        "uploads": (["generation_seeded_at"], f"status = {table.labels['uploading']}"),
        "failed": ([table.listed.name], f"status = {table.labels['failed']}"),
    }
