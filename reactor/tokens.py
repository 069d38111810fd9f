"""A token as a worker holds it, and the ways in which it is let go.

One constructor per legal transition out of `generating`:

    Succeeded → uploading      Retry → detected, due later, counted
    Failed    → failed         Released → detected, nothing counted
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID  # noqa: TC003  (a dataclass field: readers resolve it at run time)

if TYPE_CHECKING:
    from datetime import datetime

LONGEST_PROMPT = 1000  # characters; a claim returns at most one more
PREDICTION_ID = re.compile(r"\w[\w.-]{0,199}", re.ASCII)  # it becomes a part of a path


def known_as(token_id: Any, key: UUID) -> int | str:
    """The number that people know a token by, as events carry it: a text where JSON has no such number.

    Beyond 2**53 a JSON number is not exact in most languages. A token without a number is known by its key.
    """
    if token_id is None:
        return str(key)
    if isinstance(token_id, Decimal) and token_id.is_finite() and token_id == int(token_id):
        token_id = int(token_id)
    return token_id if isinstance(token_id, int) and abs(token_id) <= 2**53 else str(token_id)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a claim goes on: behind a fresh token in mint order, and behind a retry by due time. None: at the front."""

    fresh: UUID | None = None
    retry: UUID | None = None


FRONT = Place()


@dataclass(frozen=True, slots=True)
class Waiting:
    """A token that a claim would take."""

    id: UUID
    token_id: int | str  # see known_as
    fresh: bool  # no retry


@dataclass(frozen=True, slots=True)
class Claim:
    """A token in `generating`, ours as long as nobody raised its epoch."""

    id: UUID
    token_id: int | str  # see known_as
    epoch: int
    worker: int
    prompt: str | None  # the author's; None where there is no author or no text
    attempts: int  # counted so far
    censored: bool  # the fallback prompt is in use
    seed: int  # 0 … 2³¹ - 1: the intent to buy, and the model's seed
    seeded_at: datetime  # by the database's clock
    seed_was_set: bool  # by an earlier claim: something may have been bought with it
    rescued: bool  # taken over while its request may still have been in flight
    prediction_id: str | None
    age: float | None  # seconds from mint to claim by the database's clock; None where it is no first claim
    asked_at: float  # monotonic seconds, just before the claim was sent: the lease counts from here

    @property
    def fence(self) -> tuple[UUID, int]:
        """What no two claims share."""
        return self.id, self.epoch


@dataclass(frozen=True, slots=True)
class Batch:
    """What one claim statement returned: its tokens, in mint order, and what it tells of the gate and the queue."""

    claims: tuple[Claim, ...] = ()
    probe: str | None = None  # a half-open gate let the last token through: what opens it, create, image or check
    limited: bool = False  # the gate let fewer tokens through than were found
    last_fresh: UUID | None = None  # the last fresh token, by mint order, that was found
    more: bool = False  # another claim may find more

    @property
    def held_back(self) -> bool:
        """Whether more tokens wait for the gate."""
        return self.limited or self.probe is not None

    def probe_of(self, claim: Claim) -> str | None:
        """What this token is the probe for; None for every other token of the batch."""
        return self.probe if claim is self.claims[-1] else None

    def then(self, later: Batch) -> Batch:
        """Add what the next statement claimed. No statement follows one whose token is a probe."""
        return replace(later, claims=self.claims + later.claims)


@dataclass(frozen=True, slots=True)
class Bought:
    """A prediction that was created for a claim, with its seed."""

    claim: Claim
    prediction_id: str


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The image is there."""

    claim: Claim
    image_url: str
    prediction_id: str


@dataclass(frozen=True, slots=True)
class Retry:
    """Back to `detected`, to be claimed again in `due_in` seconds."""

    claim: Claim
    error: str
    error_type: str
    attempts: int
    due_in: float
    prediction_id: str | None
    purchase_over: bool  # seed and prediction id are forgotten: the next attempt buys anew


@dataclass(frozen=True, slots=True)
class Failed:
    """The end, with a reason."""

    claim: Claim
    error: str
    error_type: str
    attempts: int
    prediction_id: str | None
    exhausted: bool = False  # the last of several attempts, not a verdict on the token


@dataclass(frozen=True, slots=True)
class Released:
    """Handed back as it was: stopping is not failing, and the account's troubles are not the token's."""

    claim: Claim
    reason: str | None
    error_type: str | None
    due_in: float
    prediction_id: str | None
    purchase_over: bool = False


Outcome = Succeeded | Retry | Failed | Released
