"""Surveys the database for a migration: which tokens table it completes or makes, and what the table has already.

A table that cannot be mapped is refused here, before anything is changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy.exc import DBAPIError

from reactor.database.discovery import (
    only,
    refuse_authors_of,
    refuse_volatile,
    unreadable_prompts,
)
from reactor.database.shape import author_key, mapped
from reactor.database.table import Authors, TableError, TokensTable, plain_query
from reactor.migrations.migration_lock import MigrationError, is_denied, one_line
from reactor.migrations.steps import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class Survey:
    """A tokens table as it should be, and which part of it exists."""

    table: TokensTable
    columns: frozenset[str] | None  # None: there is no table yet
    made: bool = False  # by the migrations, which then need no mark for its columns
    unmarked: tuple[str, ...] = ()  # columns that have the names of ours, though nothing marks them as ours
    authors: Authors | None = None
    author_type: str | None = None  # of the key of the authors beside a table that is made; None: they are made too


def survey(connection: Connection, wanted: str, prompt_sql: str | None) -> Survey:
    """Find the table, or the place for it, and map it. Raises TableError, MigrationError."""
    _refuse_a_strange_schema(connection)
    place = found(connection, wanted)
    if place is None:
        return _new(connection, *_place_for(connection, wanted), prompt_sql)
    return _there(connection, place, prompt_sql)


def found(connection: Connection, wanted: str) -> tuple[str, str] | None:
    """Schema and name of the tokens table; None if there is none. Raises TableError."""
    rows = connection.exec_driver_sql(plain_query("discover"), (wanted,)).mappings().all()
    row = only([dict(row) for row in rows], wanted)
    return None if row is None else (row["schema"], row["name"])


def _there(connection: Connection, place: tuple[str, str], prompt_sql: str | None) -> Survey:
    shape = _shape(connection, *place)
    if shape is None:
        raise TableError(f"{'.'.join(place)} was renamed just now; try again")
    table = mapped(*place, shape, prompt_sql=prompt_sql)
    if table.authors:
        _refuse_strange_authors(connection, table, table.authors)
    if shape["owner_trusted"]:  # what follows runs code of the table's owner, as whoever migrates
        _refuse_other_labels(connection, table)
        _refuse_bad_prompts(connection, table)
    columns = frozenset(orjson.loads(shape["columns"]))
    return Survey(table, columns, made=shape["made"], unmarked=tuple(unmarked(shape)), authors=table.authors)


def unmarked(shape: Mapping[str, Any]) -> list[str]:
    """Columns by the names of ours, if the marks are lost: generation_epoch, which no host has, is without one."""
    columns = orjson.loads(shape["columns"])
    if shape["made"] or "generation_epoch" not in columns or columns["generation_epoch"]["ours"]:
        return []
    return [name for name in COLUMNS if name in columns and not columns[name]["ours"]]


def _new(connection: Connection, schema: str, name: str, prompt_sql: str | None) -> Survey:
    authors = _shape(connection, schema, "authors")
    if authors is None:
        beside = Authors(schema)
        return Survey(TokensTable(schema, name, prompt_sql or beside), None, authors=beside)
    columns = orjson.loads(authors["columns"] or b"{}")
    key = author_key(columns)
    if key is None or "prompt_text" not in columns:
        raise TableError(
            f"{schema}.authors has no column {'prompt_text' if key else 'id'}, and {name} would refer to it"
        )
    beside = Authors(schema, key=key)
    table = TokensTable(schema, name, prompt_sql or beside)
    _refuse_strange_authors(connection, table, beside)
    return Survey(table, None, author_type=columns[key]["type"], authors=beside)


def _refuse_strange_authors(connection: Connection, table: TokensTable, authors: Authors) -> None:
    """Raise TableError if the authors belong to a role that we have no reason to trust."""
    names = (authors.schema, authors.name, table.schema, table.name)
    owner = connection.exec_driver_sql(plain_query("authors"), names).scalar()
    refuse_authors_of(owner, f"{authors.schema}.{authors.name}")


def _shape(connection: Connection, schema: str, name: str) -> Mapping[str, Any] | None:
    row = connection.exec_driver_sql(plain_query("shape"), (schema, name)).mappings().one_or_none()
    return None if row is None else dict(row)


def _place_for(connection: Connection, wanted: str) -> tuple[str, str]:
    """Schema and name of a table that is to be made. Raises MigrationError."""
    schema, _, name = wanted.rpartition(".")
    if any(len(part.encode()) > 63 for part in (schema, name)):
        raise MigrationError(f"{wanted}: a name in PostgreSQL has at most 63 bytes")
    if not schema and not (schema := connection.exec_driver_sql(plain_query("home")).scalar() or ""):
        raise MigrationError(
            f"the search path names no schema that exists; say where the tables go, as in TOKENS_TABLE=public.{name}"
        )
    if connection.exec_driver_sql("SELECT to_regnamespace(quote_ident($1)) IS NULL", (schema,)).scalar():
        raise MigrationError(f"{wanted}: there is no schema {schema}")
    return schema, name


def _refuse_a_strange_schema(connection: Connection) -> None:
    """Raise MigrationError if a stranger has made schema reactor already."""
    owner = connection.exec_driver_sql(plain_query("schema_owner")).scalar()
    if owner is not None:
        raise MigrationError(
            f"schema reactor belongs to {owner}, whose code would run as yours: DROP SCHEMA reactor if nothing of yours"
            f" is in it; if you trust {owner}, ALTER SCHEMA reactor OWNER TO CURRENT_USER"
        )


def _refuse_other_labels(connection: Connection, table: TokensTable) -> None:
    """Raise TableError if a CHECK refuses a status that we write: each is tried, in a row with nothing else."""
    for check in connection.exec_driver_sql(plain_query("checks"), (table.relation,)).mappings().all():
        for label in table.labels.values():
            row = f"(SELECT {label if '::' in label else f'{label}::text'} AS status) AS token"
            question = f"SELECT {check['condition']} FROM {row}"  # noqa: S608  (the server's own spelling)
            if connection.exec_driver_sql(question).scalar() is False:
                raise TableError(f"{table.schema}.{table.name} has a CHECK {check['name']} that refuses status {label}")


def _refuse_bad_prompts(connection: Connection, table: TokensTable) -> None:
    """Raise TableError if prompts cannot be read as the mapping says.

    A role without rights on the rows cannot try it. Then the catalogue is enough, but not for PROMPT_SQL.
    """
    try:
        connection.exec_driver_sql(table.query("prompt_check"))
        plan = connection.exec_driver_sql(table.query("prompt_volatile")).scalars().all()
    except DBAPIError as error:
        connection.rollback()
        if is_denied(error) and not isinstance(table.prompt, str):
            return
        needs = f": it is checked with SELECT and UPDATE on {table.schema}.{table.name}" if is_denied(error) else ""
        raise unreadable_prompts(table, one_line(error) + needs) from error
    refuse_volatile(table, plan[0])
