"""Tokens as rows: what the statements about them take and give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_never

from reactor.providers import PREDICTION_ID
from reactor.tokens import Claim, Failed, Released, Retry, Succeeded, known_as

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    import asyncpg

    from reactor.redaction import Redactor
    from reactor.tokens import Outcome, Place

KINDS: tuple[tuple[str, ...], ...] = (
    (),
    ("fresh",),
    ("retries",),
    ("fresh", "retries"),
)  # of which a statement can go on behind a place


def further(after: Place) -> tuple[tuple[str, ...], list[UUID]]:
    """Of which kinds a statement goes on, and the tokens whose places it goes on behind."""
    given = {kind: key for kind, key in (("fresh", after.fresh), ("retries", after.retry)) if key is not None}
    return tuple(given), list(given.values())


def claim_of(  # noqa: PLR0913  (the ways in which a claim and a rescue differ)
    row: asyncpg.Record,
    worker: int,
    asked_at: float,
    *,
    age: float | None = None,
    probe: str | None = None,
    limited: bool = False,
    last_fresh: UUID | None = None,
    rescued: bool = False,
) -> Claim:
    names = ("id", "epoch", "prompt", "attempts", "censored", "seed", "seeded_at", "seed_was_set")
    recorded = row["prediction_id"] or ""
    return Claim(
        **{name: row[name] for name in names},
        token_id=known_as(row["token_id"], row["id"]),
        prediction_id=recorded if PREDICTION_ID.fullmatch(recorded) else None,  # set by hand, it may be anything
        worker=worker,
        asked_at=asked_at,
        age=age,
        probe=probe,
        limited=limited,
        last_fresh=last_fresh,
        rescued=rescued,
    )


def fences(claims: Sequence[Claim]) -> tuple[list[UUID], list[int], list[int]]:
    return [claim.id for claim in claims], [claim.epoch for claim in claims], [claim.worker for claim in claims]


def outcome_row(outcome: Outcome, redact: Redactor) -> tuple[Any, ...]:
    """status, image_url, error, prediction_id, attempts, due_in, purchase_over, seed: as settle.sql takes them."""
    claim = outcome.claim
    match outcome:
        case Succeeded():
            return "uploading", outcome.image_url, None, outcome.prediction_id, claim.attempts, None, False, claim.seed
        case Retry():
            wait = (outcome.attempts, outcome.due_in, outcome.purchase_over)
            return "detected", None, redact(outcome.error), outcome.prediction_id, *wait, claim.seed
        case Failed():
            return (
                "failed",
                None,
                redact(outcome.error),
                outcome.prediction_id,
                outcome.attempts,
                None,
                False,
                claim.seed,
            )
        case Released():
            reason = redact(outcome.reason) if outcome.reason is not None else None
            wait = (claim.attempts, outcome.due_in, outcome.purchase_over)
            return "detected", None, reason, outcome.prediction_id, *wait, claim.seed
        case _:
            assert_never(outcome)
