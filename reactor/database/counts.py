"""Counts tokens by status, at a cost that does not grow with the table.

A small table is read whole. In a large one, statuses with an index are counted exactly up to MOST, and the rest is
estimated from the statistics that autovacuum keeps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reactor.database.table import plain_query

if TYPE_CHECKING:
    from reactor.database.session import Session
    from reactor.database.table import TokensTable

MOST = 10_000  # tokens of a status that are counted exactly
UNINDEXED = ("ready", "revealed")
SMALL = 64 * 2**20  # bytes of a table that is read whole: at most half a second


@dataclass(frozen=True, slots=True)
class Counts:
    """Tokens by status. `estimated` names the statuses whose number is not exact."""

    tokens: dict[str, int]
    estimated: list[str] = field(default_factory=list)


async def count(session: Session, table: TokensTable) -> Counts:
    """Count the tokens. Raises DatabaseError."""
    (size,) = await session.fetch(plain_query("table_size"), table.relation)
    estimates = await _estimates(session, table) if size["bytes"] > SMALL else {}
    if not estimates:
        return Counts({row["status"]: row["tokens"] for row in await session.fetch(table.query("count_statuses"))})
    (row,) = await session.fetch(table.query("count_indexed"), MOST + 1)
    exact = {status: tokens for status, tokens in row.items() if tokens <= MOST}
    more = {status: max(tokens, estimates.get(status, 0)) for status, tokens in row.items() if tokens > MOST}
    tokens = dict.fromkeys(UNINDEXED, 0) | estimates | more | exact
    return Counts(tokens, sorted(tokens.keys() - exact.keys()))


async def _estimates(session: Session, table: TokensTable) -> dict[str, int]:
    rows = await session.fetch(plain_query("count_estimated"), table.schema, table.name)
    return {row["status"]: row["tokens"] for row in rows}
