"""What one tokens table lacks, as steps: statements that complete it, each in a transaction of its own.

A step is computed from what is there, so a second run, a second table and a half restored database are one case. What
we add to a table of the host's is marked by a comment, so that --down removes it again, and nothing else.

A CHECK of a table that we made is not made again: whoever dropped it may need a status of their own, and their
statements must not fail because of us.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reactor.database.channels import channel
from reactor.database.names import IMAGES, INDEXES, front, index_name, literal, quoted
from reactor.database.table import plain_query
from reactor.migrations.files import read
from reactor.migrations.indexes import described_indexes, indexes, wanted_indexes
from reactor.migrations.migration_lock import MigrationError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from sqlalchemy import Connection

    from reactor.database.table import Authors, TokensTable
    from reactor.migrations.indexes import Described

MARK = "made by reactor"  # the comment on tables and columns that --down may remove
COLUMNS: Mapping[str, str] = {
    "image_url": "text",
    "generation_attempts": "integer NOT NULL DEFAULT 0",
    "generation_error": "text",
    "generation_due_at": "timestamptz",
    "generation_lease_ends_at": "timestamptz",
    "generation_epoch": "bigint NOT NULL DEFAULT 0",
    "generation_worker": "bigint",
    "generation_seed": "integer",
    "generation_seeded_at": "timestamptz",
    "generation_prediction_id": "text",
    "generation_censored": "boolean NOT NULL DEFAULT false",
    "generation_rescues": "integer NOT NULL DEFAULT 0",
}
TRIGGERS = {
    "notify_inserted": "AFTER INSERT ON {table} REFERENCING NEW TABLE AS new_rows",
    "notify_updated": "AFTER UPDATE ON {table} REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows",
}
# ALWAYS stays. REPLICA rings in replicating sessions only; ALWAYS rings in these and in all others.
_ENABLE = {"D": "ENABLE TRIGGER", "R": "ENABLE ALWAYS TRIGGER"}
BRIEFLY = "writers wait for a moment"
EXCLUSIVELY = "readers and writers wait for a moment; no row is rewritten"
BESIDE = "built beside running writers, which wait for nothing"
BRIEFLY_AUTHORS = "writers of authors wait for a moment"
NOBODY = "nobody waits"


@dataclass(frozen=True, slots=True)
class Step:
    """One statement that a database still needs."""

    what: str
    statement: str
    waits: str  # who waits for it, and how long
    concurrently: bool = False  # it waits for older transactions, which takes long, and nobody waits for it


def make_authors(table: TokensTable) -> Step:
    """Make the authors table beside a tokens table that is made."""
    authors = quoted(table.schema, "authors")
    made = read("authors").format(authors=authors)
    return Step("make table authors", _marked(made, f"TABLE {authors}"), NOBODY)


def make_table(connection: Connection, table: TokensTable, authors: Authors, author_type: str) -> Iterator[Step]:
    """Make the tokens table, with all its indexes and triggers."""
    yield from _free_names(connection, table)
    statement = read("tokens").format(
        table=table.relation,
        authors=authors.relation,
        author_key=quoted(authors.key),
        author_type=author_type,
        front=_free_front(connection, table),
        columns=",\n  ".join(map(" ".join, COLUMNS.items())),
    )
    yield Step(f"make table {table.name}", _marked(statement, f"TABLE {table.relation}"), BRIEFLY_AUTHORS)
    for index, on in indexes(table).items():
        name = index_name(table.name, index)
        yield Step(f"make index {name}", f"CREATE INDEX {quoted(name)} ON {table.relation} {on}", NOBODY)
    for function in TRIGGERS:
        yield _make_trigger(table, function, f"reactor_{function}")


def complete_table(connection: Connection, table: TokensTable, there: Collection[str], *, made: bool) -> Iterator[Step]:
    """Add what the table lacks, whose columns are `there`; the host's own columns are not touched.

    `made`: the migrations made the table, so its columns need no mark.
    """
    missing = [name for name in COLUMNS if name not in there]
    if missing:
        added = ", ".join(f"ADD COLUMN {name} {COLUMNS[name]}" for name in missing)
        marks = [] if made else [f"COLUMN {table.relation}.{quoted(name)}" for name in missing]
        what = f"add column{'s' * (len(missing) > 1)} {', '.join(missing)}"
        yield Step(what, _marked(f"ALTER TABLE {table.relation} {added}", *marks), EXCLUSIVELY)
    yield from _free_names(connection, table)
    yield from _indexes(connection, table)
    yield from _triggers(connection, table)


def _marked(statement: str, *objects: str) -> str:
    """One statement that makes objects and marks them, so that none is left without its mark."""
    marks = "".join(f"\n  COMMENT ON {each} IS {literal(MARK)};" for each in objects)
    body = f"\nBEGIN\n  {statement.strip().rstrip(';')};{marks}\nEND\n"
    digest = hashlib.md5(body.encode(), usedforsecurity=False).hexdigest()
    tag = f"$reactor{digest[:8]}$"  # no name in the body contains it
    return f"DO {tag}{body}{tag}"


def _free_names(connection: Connection, table: TokensTable) -> Iterator[Step]:
    """Free the names that our indexes need from a table that had this table's name before, and was renamed."""
    names = {index_name(table.name, index): index for index in INDEXES}
    for name, other in _taken(connection, table, [*names]):
        if other is None:
            raise MigrationError(f"{table.schema}.{name} is no index of ours, and has the name of one: rename it")
        yield _rename_index(table, name, index_name(other, names[name]))


def _free_front(connection: Connection, table: TokensTable) -> str:
    """How the constraints of a table that is made are called: by its name, unless a renamed table still has those."""
    plain = front(table.name)
    ends = ("pkey", "token_id_key", "token_id_seq")
    taken = _taken(connection, table, [f"{plain}_{end}" for end in ends])
    return front(f"{table.relation} made anew".ljust(64)) if taken else plain


def _taken(connection: Connection, table: TokensTable, names: list[str]) -> list[tuple[str, str | None]]:
    given = (table.schema, table.name, names)
    return [(row["name"], row["other"]) for row in connection.exec_driver_sql(plain_query("taken"), given).mappings()]


def _indexes(connection: Connection, table: TokensTable) -> Iterator[Step]:
    """Build each index that is missing, invalid or another one; the old one serves until the new one is there."""
    there = described_indexes(connection, table.relation)
    wanted = wanted_indexes(table)
    for index, on in indexes(table).items():
        name, new = index_name(table.name, index), index_name(table.name, f"{index}2")
        if name not in there and (old := _renamed(there, index, wanted[name])):
            yield _rename_index(table, old, name)
            continue
        if name in there and there[name] == wanted[name]:
            if new in there:
                yield _drop_index(table, new)
            continue
        if new in there and there[new] != wanted[name]:
            yield _drop_index(table, new)
            del there[new]
        if name not in there and new not in there:
            yield _build_index(table, name, on)
            continue
        if new not in there:
            yield _build_index(table, new, on)
        if name in there:
            yield _drop_index(table, name)
        yield _rename_index(table, new, name)
    if (left := index_name(table.name, IMAGES)) in there:  # by a --down that was interrupted
        yield _drop_index(table, left)


def _renamed(there: Mapping[str, Described], index: str, wanted: Described) -> str | None:
    """The same index under the name that it had before the table was renamed."""
    return next(
        (name for name, each in there.items() if name.endswith(f"_generation_{index}") and each == wanted), None
    )


def _rename_index(table: TokensTable, old: str, new: str) -> Step:
    statement = f"ALTER INDEX {quoted(table.schema, old)} RENAME TO {quoted(new)}"
    return Step(f"rename index {old} to {new}", statement, NOBODY)


def _build_index(table: TokensTable, name: str, on: str) -> Step:
    statement = f"CREATE INDEX CONCURRENTLY {quoted(name)} ON {table.relation} {on}"
    return Step(f"build index {name}", statement, BESIDE, concurrently=True)


def _drop_index(table: TokensTable, name: str) -> Step:
    statement = f"DROP INDEX CONCURRENTLY {quoted(table.schema, name)}"
    return Step(f"drop index {name}, which is not as it should be", statement, BESIDE, concurrently=True)


def _triggers(connection: Connection, table: TokensTable) -> Iterator[Step]:
    """Make triggers that are missing or have other arguments, and enable those that are disabled."""
    arguments = "".join(f"{each}," for each in trigger_arguments(table))
    rows = connection.exec_driver_sql(plain_query("triggers"), (table.relation, arguments)).mappings().all()
    for function in TRIGGERS:
        there = sorted((row for row in rows if row["function"] == function), key=lambda row: not row["as_wanted"])
        name = there[0]["name"] if there else f"reactor_{function}"
        if not there or not there[0]["as_wanted"]:
            yield _make_trigger(table, function, name)
        if there and (enable := _ENABLE.get(there[0]["enabled"])):
            statement = f"ALTER TABLE {table.relation} {enable} {quoted(name)}"
            yield Step(f"enable trigger {name}", statement, BRIEFLY)


def trigger_arguments(table: TokensTable) -> list[str]:
    channels = [channel(table.schema, table.name, what) for what in ("wake", "status")]
    return [*channels, table.key.name, table.number.name]


def _make_trigger(table: TokensTable, function: str, name: str) -> Step:
    when = TRIGGERS[function].format(table=table.relation)
    arguments = ", ".join(map(literal, trigger_arguments(table)))
    called = f"FOR EACH STATEMENT EXECUTE FUNCTION reactor.{function}({arguments})"
    return Step(f"make trigger {name}", f"CREATE OR REPLACE TRIGGER {quoted(name)} {when} {called}", BRIEFLY)
