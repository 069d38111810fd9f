"""What an attempt tells of itself and of its purchase, for its entry in `reactor.attempts`: see parts/told.sql."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

import orjson

from reactor.tokens import Failed, Released, Retry, Succeeded

if TYPE_CHECKING:
    from decimal import Decimal

    from reactor.tokens import Claim, Outcome, Receipt, Rejected


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounting:
    """How a worker accounts for what it does and buys."""

    model: str
    price: Decimal | None = None  # of an image; None: not known
    history: bool = True  # whether entries are written
    budget: int = 0  # creates of a UTC day, for the fleet; 0: no limit

    def entry(self, outcome: Outcome) -> str | None:
        """What an outcome tells, as a JSON object; None if no history is written."""
        match outcome:
            case Succeeded():
                return self._told(outcome.claim, outcome.receipt, "succeeded", None)
            case Retry():
                return self._told(outcome.claim, outcome.receipt, "retry", outcome.error_type)
            case Failed():
                return self._told(outcome.claim, outcome.receipt, "failed", outcome.error_type)
            case Released():
                return self._told(outcome.claim, outcome.receipt, "released", outcome.error_type)
            case _:
                assert_never(outcome)

    def rejected(self, rejected: Rejected) -> str | None:
        """What a purchase tells whose prompt was rejected; its attempt goes on with the fallback prompt."""
        return self._told(rejected.claim, rejected.receipt, "rejected", rejected.error_type)

    def rescued(self) -> str | None:
        """What is told of the attempt of a dead worker."""
        return orjson.dumps({"model": self.model}).decode() if self.history else None

    def cost(self, receipt: Receipt) -> Decimal | None:
        """What the images of a purchase cost, if that is known."""
        return None if self.price is None or receipt.images is None else self.price * receipt.images

    def _told(self, claim: Claim, receipt: Receipt, outcome: str, error_type: str | None) -> str | None:
        if not self.history:
            return None
        now, cost = time.monotonic(), self.cost(receipt)
        told = {
            "outcome": outcome,
            "claimed_ago": now - claim.asked_at,
            "bought_ago": None if receipt.bought_at is None else now - receipt.bought_at,
            "attempt": claim.attempts + 1,
            "censored": claim.censored,
            "error_type": error_type,
            "model": self.model,
            "predict_seconds": receipt.predict_seconds,
            "images": receipt.images,
            "cost": None if cost is None else str(cost),
            "web_url": receipt.web_url,
        }
        return orjson.dumps({name: value for name, value in told.items() if value is not None}).decode()
