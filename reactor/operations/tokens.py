"""Lists, counts and retries tokens by a filter. The commands, the API and the page all ask here.

What a statement costs depends on LOOK alone, not on the table: it looks at so many tokens, newest first, and says where
the next one begins. So a list of 50 failed tokens is one statement, and a search for a rare text in a million tokens is
a hundred small ones, of which a caller makes as many as it wants to wait for. A list begins with a small look, because
most lists are full after it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from reactor.database.connections import RowRefusedError
from reactor.operations.causes import by_cause
from reactor.text.foreign import fit, fit_line
from reactor.tokens import known_as

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from datetime import datetime

    from reactor.database.session import Session
    from reactor.database.table import TokensTable
    from reactor.operations.causes import Cause

STATUSES = ("detected", "generating", "uploading", "ready", "revealed", "failed")
LOOK = 10_000  # tokens that one statement looks at, at most
WIDER = 10  # times as many as the look before
STEP = 2_000  # failed tokens that one step of a retry looks at
WITHIN = 2.0  # seconds after which a list or a count begins no further statement
COUNTED = 10_000  # tokens that are counted exactly
LONGEST = 366 * 86400.0  # seconds of `since`
LONGEST_TEXT = 1000  # characters of `matching`, and of an error
MOST_TEXTS = 2_000  # different errors that are grouped


class FilterError(ValueError):
    """A filter or a cursor that cannot be; the message says why."""


@dataclass(frozen=True, slots=True)
class TokenFilter:
    """Which tokens are meant. Raises FilterError.

    `matching` is a part of the error, or the whole number or key. `since_seconds` is the time since the token was
    minted, or since a worker last began to buy its image.
    """

    status: str | None = None
    matching: str | None = None
    since_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.status is not None and self.status not in STATUSES:
            raise FilterError(f"no status {fit_line(self.status, longest=60)!r}: it is one of {', '.join(STATUSES)}")
        if self.matching is not None and not 0 < len(self.matching) <= LONGEST_TEXT:
            raise FilterError(f"a text to match has 1 to {LONGEST_TEXT:,} characters")
        if self.since_seconds is not None and not 0 < self.since_seconds <= LONGEST:
            raise FilterError("a time to look back is more than zero, and at most a year")

    @property
    def parameters(self) -> tuple[str | None, float | None]:
        """The parameters of parts/matches.sql. Stored errors were made fit, so the text to match is too."""
        return self.matching and fit(self.matching), self.since_seconds


ALL_FAILED = TokenFilter(status="failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token as it is shown. Its texts are cut and fit to be shown, but not escaped for HTML."""

    token_id: int | str  # see known_as
    key: str
    status: str
    minted_at: datetime | None
    due_at: datetime | None  # null: not waiting for a known time
    image_url: str | None
    attempts: int | None
    error: str | None
    prediction_id: str | None
    censored: bool
    rescues: int


@dataclass(frozen=True, slots=True)
class TokenPage:
    """Some tokens, the newest first. `next` is the `after` of the next page; None: nothing is left.

    A page may hold fewer tokens than were asked for, or none, and still have a next one: the search goes on there.
    """

    tokens: list[Token]
    next: str | None


@dataclass(frozen=True, slots=True)
class Count:
    """How many tokens match; not `exact`: at least so many."""

    tokens: int
    exact: bool


@dataclass(frozen=True, slots=True)
class Causes:
    """Why tokens failed, the most frequent cause first; not `complete`: some tokens were not looked at."""

    causes: list[Cause]
    complete: bool


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a retry: tokens set back, and tokens that another transaction has locked."""

    retried: int
    locked: int


async def list_tokens(
    session: Session,
    table: TokensTable,
    wanted: TokenFilter,
    *,
    after: str | None = None,
    limit: int = 50,
    look: int = LOOK,
    within: float = WITHIN,
) -> TokenPage:
    """List up to `limit` tokens that match. Raises FilterError for an `after` that was no page's `next`."""
    found: list[Token] = []
    query, until, width = table.query("list_tokens"), time.monotonic() + within, 2 * limit
    while True:
        width = min(width, look)
        rows = await _fetch(session, query, wanted.status, width, *wanted.parameters, after, limit - len(found))
        found += [_token(row) for row in rows if row["id"] is not None]
        after, width = rows[0]["next"], WIDER * width
        if after is None or len(found) >= limit or time.monotonic() > until:
            return TokenPage(found, after)


async def count_matching(
    session: Session, table: TokensTable, wanted: TokenFilter, *, look: int = LOOK, within: float = WITHIN
) -> Count:
    """Count the tokens that match, exactly up to COUNTED."""
    tokens, after = 0, None
    query, until = table.query("count_matching"), time.monotonic() + within
    while True:
        (row,) = await _fetch(session, query, wanted.status, look, *wanted.parameters, after)
        tokens, after = tokens + row["tokens"], row["next"]
        if after is None:
            return Count(tokens, exact=True)
        if tokens > COUNTED or time.monotonic() > until:
            return Count(tokens, exact=False)


async def failures_by_cause(
    session: Session, table: TokensTable, wanted: TokenFilter = ALL_FAILED, *, look: int = LOOK, texts: int = MOST_TEXTS
) -> Causes:
    """Group failed tokens by why they failed, from one look at the table and at most `texts` different errors."""
    rows = await _fetch(session, table.query("failure_texts"), wanted.status, look, *wanted.parameters, None, texts)
    return await anyio.to_thread.run_sync(_grouped, rows)  # many texts would hold the event loop


def _grouped(rows: Sequence[Any]) -> Causes:
    texts = [(fit_line(row["error"] or ""), row["tokens"], row["token_id"]) for row in rows]
    return Causes(by_cause(texts), complete=not any(row["more"] for row in rows))


async def retry_tokens(session: Session, table: TokensTable, token_ids: Sequence[str]) -> set[str]:
    """Set these tokens back to detected, if they failed; return those that were set back."""
    return {row["token_id"] for row in await _of_each(session, table.query("retry"), token_ids)}


async def failures_among(session: Session, table: TokensTable, token_ids: Sequence[str]) -> Causes:
    """Group these tokens by why they failed; those that did not fail are left out."""
    rows = await _of_each(session, table.query("failed_among"), token_ids)
    return Causes(by_cause((fit_line(row["error"] or ""), 1, row["token_id"]) for row in rows), complete=True)


async def _of_each(session: Session, query: str, token_ids: Sequence[str]) -> list[Any]:
    """If one id does not fit the column's type, ask for each by itself."""
    try:
        return await session.fetch(query, list(token_ids))
    except RowRefusedError as error:
        if not _no_such_value(error):
            raise
    if len(token_ids) <= 1:
        return []
    return [row for token_id in token_ids for row in await _of_each(session, query, [token_id])]


async def retry_matching(
    session: Session, table: TokensTable, wanted: TokenFilter = ALL_FAILED, *, step: int = STEP
) -> AsyncGenerator[Step, None]:
    """Set all failed tokens that match back to detected, in steps. A finished step stays, whatever happens then."""
    query, begin = table.query("retry_failed"), None
    while True:
        (row,) = await session.fetch(query, begin, step, *wanted.parameters)
        yield Step(row["retried"], row["locked"])
        if (begin := row["next"]) is None:
            return


async def _fetch(session: Session, query: str, *arguments: Any) -> list[Any]:
    try:
        return await session.fetch(query, *arguments)
    except RowRefusedError as error:
        if _no_such_value(error):
            raise FilterError("that is no place in the list: use the `next` of a page") from error
        raise


def _no_such_value(error: RowRefusedError) -> bool:
    """Whether a value does not fit its column's type: no number, out of range, or not in the database's encoding."""
    return (getattr(error.__cause__, "sqlstate", None) or "").startswith("22")


def values_of(row: Any) -> dict[str, Any]:
    """What list_tokens.sql and show.sql both return, made fit to be shown: all fields of a Token but its number."""

    def text(name: str) -> str | None:
        return None if row[name] is None else fit_line(row[name])

    return {
        "key": fit_line(str(row["id"]), longest=100),
        "status": fit_line(row["status"]),
        "minted_at": row["minted_at"],
        "due_at": row["due_at"],
        "image_url": text("image_url"),
        "attempts": row["attempts"],
        "error": text("error"),
        "prediction_id": text("prediction_id"),
        "censored": bool(row["censored"]),
        "rescues": row["rescues"] or 0,
    }


def _token(row: Any) -> Token:
    return Token(token_id=_shown(known_as(row["token_id"], row["id"])), **values_of(row))


def _shown(token_id: int | str) -> int | str:
    return token_id if isinstance(token_id, int) else fit_line(token_id, longest=100)
