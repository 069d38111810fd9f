"""Reads the history of attempts, `reactor.attempts`: the commands, the API and the page all read it through here."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from reactor.database.connections import DeniedError, RolledBackError
from reactor.database.table import plain_query
from reactor.text.foreign import fit
from reactor.tokens import known_as

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from reactor.database.session import Session
    from reactor.database.table import TokensTable
    from reactor.tokens import Key

# What becomes of a wasted purchase: it made no image, or its image was not used.
WASTED = ("rejected", "failed", "timed_out", "lost", "expired")
MOST = 100  # entries of one answer, unless more are asked for
LOOK = 10_000  # entries that one statement looks at, at most
WIDER = 10  # times as many as the look before
WITHIN = 2.0  # seconds after which a search begins no further statement
NOT_KEPT = "no history is kept"
NOT_ALLOWED = "this role may not read reactor.attempts"
TOO_LONG = "the database took too long to sum up reactor.attempts"
_STOPPED = "57014"  # PostgreSQL's code for a statement that reached its time limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One attempt that ended, or one purchase. The columns are described in alembic/versions/0011_history.py."""

    id: int
    tokens_table: str
    key: str
    token_id: int | str  # see known_as
    epoch: int
    worker: int | None
    attempt: int | None
    censored: bool
    claimed_at: datetime | None
    bought_at: datetime | None
    ended_at: datetime
    outcome: str
    error_type: str | None
    error: str | None
    model: str | None
    seed: int | None
    prediction_id: str | None
    predict_seconds: float | None
    images: int | None
    cost: Decimal | None
    web_url: str | None

    @property
    def as_json(self) -> dict[str, Any]:
        """The entry for JSON: times in ISO 8601, the cost as a number."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        times = {name: values[name] and values[name].isoformat() for name in ("claimed_at", "bought_at", "ended_at")}
        return values | times | {"cost": None if self.cost is None else float(self.cost)}


@dataclass(frozen=True, slots=True)
class EntryPage:
    """Some entries. `next` is the `before` of the next page; None: nothing is left.

    A page may hold fewer entries than were asked for, or none, and still have a next one: the search goes on there.
    """

    entries: list[Entry]
    next: int | None


@dataclass(frozen=True, slots=True)
class Purchases:
    """How many predictions were bought since a time, and what became of them."""

    counts: Mapping[str, int] = field(default_factory=dict)  # by what became of them: used, open, or one of WASTED
    costs: Mapping[str, Decimal | None] = field(default_factory=dict)  # by the same names; None: no price was known

    @property
    def bought(self) -> int:
        """All purchases."""
        return sum(self.counts.values())

    @property
    def used(self) -> int:
        """Purchases whose image a token got."""
        return self.counts.get("used", 0)

    @property
    def wasted(self) -> int:
        """Purchases that came to nothing. Those that are neither used nor wasted have not ended yet."""
        return sum(self.counts.get(name, 0) for name in WASTED)

    @property
    def cost(self) -> Decimal | None:
        """What their images cost together; None if no price was known."""
        known = [cost for cost in self.costs.values() if cost is not None]
        return sum(known, start=Decimal(0)) if known else None

    @property
    def as_json(self) -> dict[str, Any]:
        """The sums, and the counts of what was wasted by reason."""
        reasons = {name: self.counts[name] for name in WASTED if self.counts.get(name)}
        cost = None if self.cost is None else float(self.cost)
        return {"bought": self.bought, "used": self.used, "wasted": self.wasted, "cost": cost, "wasted_by": reasons}


async def purchases(session: Session, *, seconds: float | None = None) -> Purchases:
    """Count the purchases of the last `seconds`, or of this UTC day, on the whole account. Raises DatabaseError."""
    rows = await session.fetch(plain_query("purchases"), seconds)
    return Purchases({row["became"]: row["purchases"] for row in rows}, {row["became"]: row["cost"] for row in rows})


async def today(session: Session, *, kept: bool = True) -> Purchases | str:
    """Count the purchases of this UTC day; return a sentence instead if nobody can know. Raises DatabaseError.

    `kept`: whether the workers write a history.
    """
    if not kept:
        return NOT_KEPT
    try:
        return await purchases(session)
    except RolledBackError as error:
        return why_unknown(error)


def why_unknown(error: RolledBackError) -> str:
    """Why nobody can know the sums over the history, in a sentence. Raises any other error."""
    if isinstance(error, DeniedError):
        return NOT_ALLOWED
    if getattr(error.__cause__, "sqlstate", None) == _STOPPED:
        return TOO_LONG
    raise error


async def of_token(
    session: Session, table: TokensTable, key: Key, *, rows: int = MOST, before: int | None = None
) -> list[Entry]:
    """The newest entries of one token, by its primary key; those before the entry `before`, if it is given."""
    return _entries(await session.fetch(table.query("history_of_token"), str(key), rows, before))


async def since(
    session: Session,
    table: TokensTable,
    *,
    seconds: float | None = None,
    outcomes: Sequence[str] | None = None,
    rows: int = MOST,
    before: int | None = None,
    look: int = LOOK,
    within: float = WITHIN,
) -> EntryPage:
    """The newest entries of the table, before the entry `before`; only the last `seconds`, and only these outcomes.

    One statement looks at `look` entries at most, and after `within` seconds no further one begins.
    """
    given = None if outcomes is None else list(outcomes)
    found: list[Entry] = []
    query, until, width = table.query("history_since"), time.monotonic() + within, 2 * rows
    while True:
        width = min(width, look)
        read = [dict(row) for row in await session.fetch(query, seconds, rows - len(found), before, given, width)]
        (before,) = {row.pop("next") for row in read}
        found += _entries([row for row in read if row["id"] is not None])
        width *= WIDER
        if before is None or len(found) >= rows or time.monotonic() > until:
            return EntryPage(found, before)


def _entries(rows: Sequence[Any]) -> list[Entry]:
    """Entries made fit to be shown: whoever may insert into the history may have written anything."""
    return [
        _entry({name: fit(value) if isinstance(value, str) else value for name, value in row.items()}) for row in rows
    ]


def _entry(row: dict[str, Any]) -> Entry:
    return Entry(**row | {"token_id": known_as(row["token_id"], row["key"])})
