"""Reads what an audit joins: the provider's listing first, then our tables, then the history.

In this order nothing is missed. A seed is in its row before anything is bought with it, and a row forgets a purchase in
the statement that writes it into the history. So what the listing shows is in a row or in the history by then.
What is unexplained nevertheless is looked for once more, also among tokens whose seed is older than the audit.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

from reactor.database.connections import DeniedError
from reactor.database.discovery import find
from reactor.database.rights import look_at_rights
from reactor.database.table import TableError, plain_query
from reactor.operations.audit import KINDS, Judged, judge, unlisted
from reactor.operations.audit_facts import Ending, Facts, TokenRow
from reactor.providers.walk import patiently, walk
from reactor.tokens import PREDICTION_ID

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from reactor.database.session import Session
    from reactor.database.table import TokensTable
    from reactor.operations.audit import Kind
    from reactor.providers.replicate import ReplicateProvider
    from reactor.providers.walk import Inputs

STEP = 10_000  # rows that one statement looks at
EARLIER = timedelta(minutes=10)  # the listing and the history are read back so much further than the audited time
MOST_ASKED = 500  # used predictions that the listing lacks, each of which is asked for
NO_PROMPT = "NULL"  # instead of PROMPT_SQL: an audit reads no prompt, and ours may not fit another table
_NO_MORE: tuple[list[str], list[int]] = ([], [])


@dataclass(frozen=True, slots=True)
class Audit:
    """The judged predictions, and the time that was audited."""

    since: datetime
    until: datetime
    judged: Sequence[Judged]

    @property
    def counts(self) -> dict[Kind, int]:
        """How many predictions there are of each kind."""
        counted = Counter(each.kind for each in self.judged)
        return {kind: counted[kind] for kind in KINDS}

    @property
    def ok(self) -> bool:
        """Whether every prediction is explained, or cannot be."""
        return all(each.explained is not False for each in self.judged)

    def cost(self, *kinds: Kind) -> Decimal | None:
        """What predictions of these kinds cost, as far as the history tells."""
        known = [each.cost for each in self.judged if each.kind in kinds and each.cost is not None]
        return sum(known, Decimal(0)) if known else None


async def audit(
    session: Session,
    table: TokensTable,
    provider: ReplicateProvider,
    inputs: Inputs,
    since: float,
    *,
    step: int = STEP,
) -> Audit:
    """Audit the last `since` seconds. Raises DatabaseError, and GenerationError if the listing cannot be read."""
    (bounds,) = await session.fetch(plain_query("audit_bounds"), since)
    listed = await walk(provider, bounds["since"] - EARLIER, inputs)
    tables, unread = await _our_tables(session, table)
    facts = await _facts(session, tables, bounds, _NO_MORE, step)
    facts = replace(facts, unread=unread, seeded=bool(inputs.seed_input))
    judged = judge(listed, facts)
    if open_questions := [each for each in judged if not each.explained]:
        ids = [each.prediction_id for each in open_questions]
        seeds = [each.seed for each in open_questions if each.seed is not None]
        facts = _both(facts, await _facts(session, tables, bounds, (ids, seeds), step))
    known = await _known(provider, unlisted(listed, facts))
    return Audit(bounds["since"], bounds["now"], _in_time(judge(listed, facts, known), bounds["since"]))


def _in_time(judged: Sequence[Judged], since: datetime) -> list[Judged]:
    return [each for each in judged if each.created_at is None or each.created_at >= since]


async def _known(provider: ReplicateProvider, missing: Sequence[Judged]) -> set[str]:
    """The used predictions that the provider has, although its listing lacks them: the listing lags."""
    names = [each.prediction_id for each in missing if PREDICTION_ID.fullmatch(each.prediction_id)]
    return {name for name in names[:MOST_ASKED] if await patiently(partial(provider.knows, name))}


async def _our_tables(session: Session, table: TokensTable) -> tuple[list[TokensTable], list[str]]:
    """All tokens tables that share our history, and the names of those that could not be read."""
    tables, unread = [table], []
    if (hidden := (await look_at_rights(session.fetch, table)).row_security) is not None:
        unread.append(hidden)
    for row in await session.fetch(plain_query("marked")):
        name = f"{row['schema']}.{row['name']}"
        if name == f"{table.schema}.{table.name}":
            continue
        try:
            tables.append(await find(session.fetch, name, prompt_sql=NO_PROMPT))
        except (TableError, DeniedError):
            unread.append(name)
    return tables, unread


async def _facts(
    session: Session, tables: Sequence[TokensTable], bounds: Any, more: tuple[list[str], list[int]], step: int
) -> Facts:
    since = bounds["since"] - EARLIER
    tokens = [token for table in tables for token in await _tokens(session, table, since, more, step)]
    endings = await _endings(session, since, step)
    return Facts(
        since=bounds["since"],
        now=bounds["now"],
        tokens=tokens,
        endings=endings,
        history_since=bounds["history_since"],
    )


async def _tokens(
    session: Session, table: TokensTable, since: datetime, more: tuple[list[str], list[int]], step: int
) -> list[TokenRow]:
    query, begin, found, name = table.query("audit_tokens"), None, [], f"{table.schema}.{table.name}"
    while True:
        rows = await session.fetch(query, begin, step, since, *more)
        found += [_token(name, row) for row in rows if row["key"] is not None]
        begin = rows[0]["next"]
        if begin is None:
            return found


def _token(table: str, row: Any) -> TokenRow:
    return TokenRow(
        at=(table, row["key"]),
        token_id=row["token_id"],
        status=row["status"],
        seed=row["seed"],
        prediction_id=row["prediction_id"],
        seeded_at=row["seeded_at"],
    )


async def _endings(session: Session, since: datetime, step: int) -> list[Ending]:
    query, at, behind, found = plain_query("audit_history"), None, None, []
    while True:
        rows = await session.fetch(query, since, at, behind, step)
        found += [_ending(row) for row in rows]
        if len(rows) < step:
            return found
        at, behind = rows[-1]["ended_at"], rows[-1]["id"]


def _ending(row: Any) -> Ending:
    plain = ("id", "token_id", "epoch", "attempt", "outcome", "error", "seed", "prediction_id")
    times = ("bought_at", "ended_at", "images", "cost")
    return Ending(at=(row["tokens_table"], row["key"]), **{name: row[name] for name in plain + times})


def _both(first: Facts, second: Facts) -> Facts:
    """The facts of two looks; the second is newer."""
    tokens = {each.at: each for each in (*first.tokens, *second.tokens)}
    endings = {each.id: each for each in (*first.endings, *second.endings)}
    return replace(first, tokens=list(tokens.values()), endings=list(endings.values()))
