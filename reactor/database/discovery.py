"""Finds the tokens table, and refuses one that strangers could use against us, or that is not migrated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from reactor.database.connections import ConnectionLostError, DatabaseError, DeniedError
from reactor.database.names import INDEXES, index_name, quoted
from reactor.database.rights import refuse_faults
from reactor.database.shape import OURS, mapped
from reactor.database.table import HEAD, TableError, plain_query
from reactor.text.messages import first_line_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    import asyncpg

    from reactor.database.session import Session
    from reactor.database.table import TokensTable

    Fetch = Callable[..., Awaitable[list[asyncpg.Record]]]


async def discover(session: Session, tokens_table: str, *, prompt_sql: str | None = None) -> TokensTable:
    """Find the tokens table, map it, and let the session serve it. Raises TableError, DatabaseError."""
    table = await find(session.fetch, tokens_table, prompt_sql=prompt_sql)
    session.safe.serve(table.relation)
    return table


async def find(fetch: Fetch, tokens_table: str, *, prompt_sql: str | None = None) -> TokensTable:
    """Find the tokens table by the statements that `fetch` runs, and map it. Raises TableError."""
    rows = [dict(row) for row in await fetch(plain_query("discover"), tokens_table)]
    if (found := only(rows, tokens_table)) is None:
        raise not_migrated("has no table", tokens_table, words_for_strangers(rows))
    shapes = await fetch(plain_query("shape"), found["schema"], found["name"])
    shape = dict(shapes[0]) if shapes else {"migrated": False}  # somebody may have renamed it just now
    revision = (await fetch(plain_query("revision")))[0]["revision"] if found["revision_readable"] else HEAD
    if revision is not None and revision > HEAD:
        refuse_a_newer(revision, [row["serves_from"] for row in await fetch(plain_query("serves_from"))])
    if not shape["migrated"]:
        raise not_migrated("is not migrated:", tokens_table, words_for_strangers(rows))
    refuse_an_older(revision, tokens_table)
    refuse_incomplete(found["name"], shape, tokens_table)
    table = mapped(found["schema"], found["name"], shape, prompt_sql=prompt_sql)
    if authors := table.authors:
        for row in await fetch(plain_query("authors"), authors.schema, authors.name, table.schema, table.name):
            refuse_authors_of(row["owner"], f"{authors.schema}.{authors.name}")
    return table


async def served(session: Session, tokens_table: str, *, prompt_sql: str | None = None) -> TokensTable:
    """Find the tokens table for a worker, whose role must have the rights to serve it. Raises as below, RightsError."""
    table = await discover(session, tokens_table, prompt_sql=prompt_sql)
    await refuse_faults(session.fetch, table)
    await refuse_bad_prompts(session, table)
    return table


async def refuse_bad_prompts(session: Session, table: TokensTable) -> None:
    """Raise TableError if prompts cannot be read as the mapping says; a bad PROMPT_SQL is the usual reason."""
    try:
        await session.fetch(table.query("prompt_check"))
        plan = await session.fetch(table.query("prompt_volatile"))
    except (ConnectionLostError, DeniedError) as error:
        if isinstance(table.prompt, str) and isinstance(error, DeniedError):
            raise unreadable_prompts(table, first_line_of(error.__cause__ or error)) from error
        raise
    except DatabaseError as error:
        raise unreadable_prompts(table, first_line_of(error.__cause__ or error)) from error
    refuse_volatile(table, plan[0][0])


def unreadable_prompts(table: TokensTable, reason: str) -> TableError:
    """Say why the prompts cannot be read."""
    source = "PROMPT_SQL" if isinstance(table.prompt, str) else "the prompts cannot be read"
    return TableError(f"{source}: {reason}")


def refuse_volatile(table: TokensTable, plan: str) -> None:
    """Raise TableError if PROMPT_SQL is volatile, by the first line of the plan of `queries/prompt_volatile.sql`."""
    if isinstance(table.prompt, str) and plan.startswith("Subquery Scan"):
        raise TableError("PROMPT_SQL is volatile: it must give the same prompt whenever it is asked")


def only(found: Sequence[Mapping[str, Any]], wanted: str) -> Mapping[str, Any] | None:
    """The one table that `queries/discover.sql` found, or None. Raises TableError if it found several."""
    found = [row for row in found if not row["passed_over"]]
    if len(found) > 1:
        names = [f"{row['schema']}.{row['name']}" for row in found]
        raise TableError(f"{wanted} can be {' or '.join(names)}; name the schema, as in TOKENS_TABLE={names[0]}")
    return found[0] if found else None


def words_for_strangers(found: Sequence[Mapping[str, Any]]) -> str:
    """Words for the strangers' tables that `queries/discover.sql` passed over; '' if there are none."""
    names = [f"{row['schema']}.{row['name']} of role {row['owner']}" for row in found if row["passed_over"]]
    return f" (not counting {', '.join(names)}: name its schema in TOKENS_TABLE if you mean it)" if names else ""


def not_migrated(what: str, wanted: str, passed_over: str = "") -> TableError:
    """Say what is missing, and the command that makes it."""
    return TableError(f"the database {what} {wanted}{passed_over}; run: reactor migrate")


def refuse_authors_of(owner: str | None, authors: str) -> None:
    """Raise TableError if `queries/authors.sql` returned an owner."""
    if owner is not None:
        raise TableError(
            f"{authors} belongs to {owner}, who owns neither the database nor the tokens, and whose code would"
            f" run as yours: if you trust {owner}, GRANT {quoted(owner)} TO CURRENT_USER"
        )


def refuse_incomplete(name: str, shape: Mapping[str, Any], wanted: str) -> None:
    """Raise TableError if the table lacks a column or an index of ours, because a migration was interrupted, say.

    While `migrate` replaces an index, only its replacement may be there.
    """
    columns, indexes = orjson.loads(shape["columns"]), set(shape["indexes"])
    lacks = [f"column {column}" for column in OURS if column not in columns] + [
        f"index {index_name(name, index)}"
        for index in INDEXES
        if not {index_name(name, index), index_name(name, f"{index}2")} & indexes
    ]
    if lacks:
        raise TableError(f"the database is not completely migrated: {wanted} lacks {lacks[0]}; run: reactor migrate")


def refuse_an_older(revision: str | None, wanted: str) -> None:
    """Raise TableError if a migration was interrupted, or an older version of the reactor migrated."""
    if revision is None or revision < HEAD:
        at = f"at {revision or 'the beginning'}, not at {HEAD}"
        raise TableError(f"the database is not completely migrated ({at}): {wanted}; run: reactor migrate")


def refuse_a_newer(revision: str, serves_from: Sequence[str | None]) -> None:
    """Raise TableError if a newer version of the reactor migrated, and its database does not serve this one any more.

    A database that does not say which versions it serves serves all: see `queries/serves_from.sql`.
    """
    oldest = max((each or "" for each in serves_from), default="")
    if oldest > HEAD:
        raise TableError(
            f"the database was migrated by a newer reactor (at {revision}), which serves versions from {oldest} on, and"
            f" this one is {HEAD}: upgrade it"
        )
