"""What is measured: each event adds to some instruments. The sinks for Prometheus and OpenTelemetry record the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reactor import events

if TYPE_CHECKING:
    from collections.abc import Iterator
    from decimal import Decimal

OUTCOMES = {
    events.GENERATION_SUCCEEDED: "succeeded",
    events.GENERATION_RETRIED: "retry",
    events.GENERATION_EXHAUSTED: "exhausted",
    events.GENERATION_FAILED: "failed",
    events.GENERATION_RELEASED: "released",
    events.LEASE_LOST: "lost",
}
PURCHASES = ("used", "rejected", "failed", "timed_out", "lost")  # what becomes of them; see purchases.sql
REFUSALS = ("malformed", "slow", "crowded", "host", "token", "origin")
DURATIONS = (0.5, 1, 2, 3, 5, 8, 13, 20, 30, 60, 120, 300)  # seconds
REACTIONS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)  # seconds
ATTEMPTS = range(1, 11)  # the numbers with a label of their own


@dataclass(frozen=True, slots=True)
class Instrument:
    """A counter; or a histogram of seconds, if it has buckets."""

    prometheus: str  # its name there
    opentelemetry: str  # its name there
    meaning: str
    label: str | None = None
    known: tuple[str, ...] = ()  # values of the label that are there from the start
    buckets: tuple[float, ...] = ()


TOTAL = Instrument(
    "image_generation_total",
    "reactor.attempts",
    "Attempts by outcome.",
    label="outcome",
    known=tuple(OUTCOMES.values()),  # Prometheus needs a zero before the first event to compute a rate
)
RETRIES = Instrument(
    "image_generation_retries_total", "reactor.retries", "Attempts that are repeated.", label="attempt_number"
)
CLAIMS = Instrument("reactor_claims_total", "reactor.claims", "Tokens that this worker claimed.")
RESCUES = Instrument(
    "reactor_rescues_total", "reactor.rescues", "Tokens taken over from workers that could not finish them."
)
LOST = Instrument(
    "reactor_lease_lost_total", "reactor.lease_lost", "Tokens that another worker took over from this one."
)
AMBIGUOUS = Instrument(
    "reactor_ambiguous_creates_total",
    "reactor.ambiguous_creates",
    "Creates without a readable answer: an image may have been bought.",
)
REFUSED = Instrument(
    "reactor_http_refused_total",
    "reactor.http_refused",
    "HTTP requests that were refused.",
    label="reason",
    known=REFUSALS,
)
PURCHASED = Instrument(
    "reactor_purchases_total",
    "reactor.purchases",
    "Predictions by what became of them.",
    label="outcome",
    known=PURCHASES,
)
COST = Instrument(
    "reactor_purchase_cost_total", "reactor.purchase_cost", "Cost of their images, if PRICE_PER_IMAGE is set."
)
DURATION = Instrument(
    "image_generation_duration_seconds",
    "reactor.generation.duration",
    "From the claim to the image in the row.",
    buckets=DURATIONS,
)
REACTION = Instrument(
    "image_generation_reaction_seconds",
    "reactor.reaction.duration",
    "From a new token's row to the request to the provider.",
    buckets=REACTIONS,
)
INSTRUMENTS = (TOTAL, RETRIES, CLAIMS, RESCUES, LOST, AMBIGUOUS, REFUSED, PURCHASED, COST, DURATION, REACTION)
_COUNTED = {events.GENERATION_RESCUED: RESCUES, events.CREATE_AMBIGUOUS: AMBIGUOUS, events.LEASE_LOST: LOST}


def measured(
    event: str, fields: dict[str, Any], *, price: Decimal | None = None
) -> Iterator[tuple[Instrument, float, str | None]]:
    """Give each instrument that the event adds to, with the amount and the value of its label. `price`: of an image."""
    match event:
        case events.TOKENS_CLAIMED:
            yield CLAIMS, fields.get("count", 0), None
        case events.CREATE_SENT if fields.get("age_seconds") is not None:
            yield REACTION, fields["age_seconds"] + fields.get("waited_seconds", 0.0), None
        case events.HTTP_REFUSED:
            yield from ((REFUSED, fields.get(reason, 0), reason) for reason in REFUSALS)
        case events.PURCHASE_ENDED:
            yield from _purchase(fields, price)
        case events.GENERATION_RETRIED:
            yield RETRIES, 1, _attempt_number(fields.get("attempt"))
        case events.GENERATION_SUCCEEDED:
            yield DURATION, fields.get("duration_seconds", 0.0), None
    if event in _COUNTED:
        yield _COUNTED[event], 1, None
    if outcome := OUTCOMES.get(event):
        yield TOTAL, 1, outcome


def _purchase(fields: dict[str, Any], price: Decimal | None) -> Iterator[tuple[Instrument, float, str | None]]:
    if (outcome := fields.get("outcome")) in PURCHASES:
        yield PURCHASED, 1, outcome
        if price is not None and isinstance(images := fields.get("images"), int):
            yield COST, float(price * images), None


def _attempt_number(attempt: Any) -> str:
    """The number as a label. Others share one, because the inserter of a row can write any number."""
    return str(attempt) if attempt in ATTEMPTS else "more"
