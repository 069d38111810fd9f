"""Turns the rows of statements into claims, and outcomes into the parameters of statements."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, assert_never

from reactor.tokens import PREDICTION_ID, TRACEPARENT, Batch, Claim, Failed, Released, Retry, Succeeded, known_as

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import asyncpg

    from reactor.database.accounting import Accounting
    from reactor.text.redaction import Redactor
    from reactor.tokens import Key, Outcome, Place

Answer = Literal["won", "already", "lost", "locked"]  # about a write that is fenced


@dataclass(frozen=True, slots=True)
class Intent:
    """The intent to buy with the fallback prompt."""

    seed: int
    seeded_at: datetime
    spent: bool = False  # the day's budget allows no create any more


@dataclass(frozen=True, slots=True)
class Abandoned:
    """A token that its holder cannot finish, as `abandoned.sql` saw it."""

    id: Key
    epoch: int
    lease_ends_at: float | None  # seconds since 1970; infinity if somebody set it so by hand
    owner: Literal["own", "foreign", "dead"]


@dataclass(frozen=True, slots=True)
class Rescued:
    """A token that was taken over, or failed because its workers had died too often."""

    claim: Claim
    owner: Literal["own", "foreign", "dead"]
    failed: str | None  # the reason; None: taken over


KINDS: tuple[tuple[str, ...], ...] = (
    (),
    ("fresh",),
    ("retries",),
    ("fresh", "retries"),
)  # the kinds for which a statement can start behind a token


def start_of(after: Place) -> tuple[tuple[str, ...], list[Key]]:
    """The kinds for which a statement starts behind a token, and the keys of these tokens."""
    given = {kind: key for kind, key in (("fresh", after.fresh), ("retries", after.retry)) if key is not None}
    return tuple(given), list(given.values())


def batch_of(rows: Sequence[asyncpg.Record], worker: int, asked_at: float) -> Batch:
    """The batch that `claim.sql` returned; each row repeats the facts about the statement."""
    if not rows:
        return Batch()
    return Batch(
        claims=tuple(claim_of(row, worker, asked_at, age=row["age"]) for row in rows),
        probe=rows[0]["probe"],
        limited=rows[0]["limited"],
        last_fresh=rows[0]["last_fresh"],
    )


def claim_of(
    row: asyncpg.Record, worker: int, asked_at: float, *, age: float | None = None, rescued: bool = False
) -> Claim:
    """The claim on the token of a row with the columns of `parts/held.sql`."""
    recorded, trace = row["prediction_id"] or "", TRACEPARENT.match(row["traceparent"] or "")
    return Claim(
        id=row["id"],
        token_id=known_as(row["token_id"], row["id"]),
        epoch=row["epoch"],
        worker=worker,
        prompt=row["prompt"],
        attempts=row["attempts"],
        censored=row["censored"],
        seed=row["seed"],
        seeded_at=row["seeded_at"],
        seed_was_set=row["seed_was_set"],
        rescued=rescued,
        prediction_id=recorded if PREDICTION_ID.fullmatch(recorded) else None,  # somebody may have set it by hand
        traceparent=trace[0] if trace else None,
        age=age,
        asked_at=asked_at,
    )


def fences(claims: Sequence[Claim]) -> tuple[list[Key], list[int], list[int]]:
    return [claim.id for claim in claims], [claim.epoch for claim in claims], [claim.worker for claim in claims]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeRow:
    """An outcome as parameters of settle.sql."""

    status: str
    image_url: str | None = None
    error: str | None = None
    prediction_id: str | None
    attempts: int
    due_in: float | None = None  # seconds
    purchase_over: bool = False
    seed: int


def outcome_columns(outcomes: Sequence[Outcome], redact: Redactor, accounting: Accounting) -> tuple[list[Any], ...]:
    """The parameters of settle.sql behind the fences, in its order."""
    rows = [outcome_row(outcome, redact) for outcome in outcomes]
    return (
        [row.status for row in rows],
        [row.image_url for row in rows],
        [row.error for row in rows],
        [row.prediction_id for row in rows],
        [row.attempts for row in rows],
        [row.due_in for row in rows],
        [row.purchase_over for row in rows],
        [row.seed for row in rows],
        [accounting.entry(outcome) for outcome in outcomes],
        [was_recorded(outcome) for outcome in outcomes],
    )


def was_recorded(outcome: Outcome) -> bool:
    """Whether the row has named the purchase: at the claim, or since this worker recorded it."""
    bought = outcome.prediction_id
    return bought is not None and (outcome.receipt.recorded or bought == outcome.claim.prediction_id)


def outcome_row(outcome: Outcome, redact: Redactor) -> OutcomeRow:
    claim = outcome.claim
    row = partial(OutcomeRow, prediction_id=outcome.prediction_id, seed=claim.seed)
    match outcome:
        case Succeeded():
            return row(status="uploading", image_url=outcome.image_url, attempts=claim.attempts)
        case Retry():
            return row(
                status="detected",
                error=redact(outcome.error),
                attempts=outcome.attempts,
                due_in=outcome.due_in,
                purchase_over=outcome.purchase_over,
            )
        case Failed():
            return row(status="failed", error=redact(outcome.error), attempts=outcome.attempts)
        case Released():
            return row(
                status="detected",
                error=redact(outcome.reason) if outcome.reason is not None else None,
                attempts=claim.attempts,
                due_in=outcome.due_in,
                purchase_over=outcome.purchase_over,
            )
        case _:
            assert_never(outcome)
