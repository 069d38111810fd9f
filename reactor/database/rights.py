"""What our role may not do or see of a tokens table, in words, and what would change that."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reactor.database.connections import DatabaseError
from reactor.database.privileges import Privilege, given_by, of_the_gate, of_the_history, of_tokens
from reactor.database.table import plain_query

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    import asyncpg

    from reactor.database.table import TokensTable

    Fetch = Callable[..., Awaitable[list[asyncpg.Record]]]

_WRITES = ("UPDATE", "INSERT", "DELETE")
_SCHEMA_OF_A_TYPE = re.compile(r"::(?:\"((?:[^\"]|\"\")+)\"|([^.\"]+))\.")


class RightsError(DatabaseError):
    """The role lacks privileges, or row security hides everything from it. Retry, because they may be granted."""


@dataclass(frozen=True, slots=True)
class Rights:
    """What the role lacks."""

    role: str
    grants: Sequence[str]  # the statements that give the privileges that are missing
    only_reads: bool  # all that is missing are the privileges to write, and all of these are
    hidden: Sequence[str]  # tables of which row security shows the role nothing
    partly: Sequence[str]  # tables of which row security shows the role what policies allow

    @property
    def fault(self) -> str | None:
        """Why the role can claim nothing, on one line; None if it can."""
        if self.grants:
            return f"role {self.role} lacks privileges: {'; '.join(self.grants)}"
        return f"{self.row_security}: {self.remedy}" if self.hidden else None

    @property
    def row_security(self) -> str | None:
        """What row security hides, or may hide, on one line; None if nothing."""
        if self.hidden:
            return f"row security hides every row of {' and '.join(self.hidden)} from role {self.role}"
        if self.partly:
            return f"row security shows role {self.role} only what policies allow of {' and '.join(self.partly)}"
        return None

    @property
    def remedy(self) -> str:
        """The statements that show the role what is hidden from it."""
        return "; ".join(f"CREATE POLICY reactor ON {each} TO {self.role} USING (true)" for each in self.hidden)


def needed(table: TokensTable) -> list[Privilege]:
    """Every privilege that a worker's statements need, each once. The columns that PROMPT_SQL reads are not known."""
    read, authors = [column.name for column in (table.key, table.number, table.order, table.born)], table.authors
    if authors:
        read.append("author_id")
    elif not isinstance(table.prompt, str):
        read.append(table.prompt.name)
    if table.trace:
        read.append(table.trace.name)
    privileges = [Privilege("USAGE", schema) for schema in (table.schema, "reactor", *_schemas_of_labels(table))]
    privileges += of_tokens(table.schema, table.name, read)
    if authors:
        privileges.append(Privilege("USAGE", authors.schema))
        privileges += (Privilege("SELECT", authors.schema, authors.name, each) for each in (authors.key, "prompt_text"))
    return list(dict.fromkeys([*privileges, *of_the_gate(), *of_the_history()]))


def _schemas_of_labels(table: TokensTable) -> Iterator[str]:
    """The schemas of the types that labels are cast to."""
    for label in table.labels.values():
        if type_ := _SCHEMA_OF_A_TYPE.search(label):
            yield (type_[1] or type_[2]).replace('""', '"')


async def look_at_rights(fetch: Fetch, table: TokensTable) -> Rights:
    """Find out what our role lacks, by the statements that `fetch` runs. Raises DatabaseError."""
    wanted = needed(table)
    missing = await fetch(
        plain_query("privileges"),
        [each.name for each in wanted],
        [each.schema for each in wanted],
        [each.object for each in wanted],
        [each.column for each in wanted],
    )
    places = [(table.schema, table.name, True), ("reactor", "intake", True), ("reactor", "attempts", False)]
    if table.authors:
        places.append((table.authors.schema, table.authors.name, False))
    guarded = await fetch(plain_query("row_security"), *map(list, zip(*places, strict=True)))
    return Rights(
        role=next((row["role"] for row in (*missing, *guarded)), ""),
        grants=given_by(missing),
        only_reads=[row["privilege"] for row in missing] == [each.name for each in wanted if each.name in _WRITES],
        hidden=[row["object"] for row in guarded if row["all_hidden"]],
        partly=[row["object"] for row in guarded if not row["all_hidden"]],
    )


async def refuse_faults(fetch: Fetch, table: TokensTable) -> None:
    """Raise RightsError if our role can claim nothing."""
    if fault := (await look_at_rights(fetch, table)).fault:
        raise RightsError(fault)
