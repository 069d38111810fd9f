"""A token as a worker holds it, and the outcomes by which the worker gives it up.

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
PREDICTION_ID = re.compile(r"\w[\w.-]{0,199}", re.ASCII)  # it becomes a part of a URL's path


def known_as(token_id: Any, key: UUID) -> int | str:
    """The token's public number, as events carry it. A token without a number is known by its key.

    A number beyond 2**53, or with a fraction, becomes a text, because most languages do not read it exactly from JSON.
    """
    if token_id is None:
        return str(key)
    if isinstance(token_id, Decimal) and token_id.is_finite() and token_id == int(token_id):
        token_id = int(token_id)
    return token_id if isinstance(token_id, int) and abs(token_id) <= 2**53 else str(token_id)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a claim goes on: after this fresh token in mint order, after this retry by due time. None: the front."""

    fresh: UUID | None = None
    retry: UUID | None = None


FRONT = Place()


@dataclass(frozen=True, slots=True)
class Waiting:
    """A token that a claim would take."""

    id: UUID
    token_id: int | str  # see known_as
    fresh: bool  # never claimed, so no retry


@dataclass(frozen=True, slots=True)
class Claim:
    """A token in `generating`. It is ours until another worker raises its epoch."""

    id: UUID
    token_id: int | str  # see known_as
    epoch: int
    worker: int
    prompt: str | None  # the author's; None without an author or a text
    attempts: int  # counted so far
    censored: bool  # the fallback prompt is in use
    seed: int  # 0 … 2³¹ - 1: the model's seed; in the row it announces a purchase
    seeded_at: datetime  # by the database's clock
    seed_was_set: bool  # by an earlier claim, so a prediction may have been bought with it
    rescued: bool  # taken over while its request may still have been in flight
    prediction_id: str | None
    age: float | None  # seconds from mint to claim by the database's clock; None if it is not the first claim
    asked_at: float  # monotonic seconds, just before the claim was sent: the lease begins here

    @property
    def fence(self) -> tuple[UUID, int]:
        """A pair that identifies this claim: no other claim has the same."""
        return self.id, self.epoch


@dataclass(frozen=True, slots=True)
class Batch:
    """The result of one claim statement: its tokens, in mint order, and the state of the gate and of the queue."""

    claims: tuple[Claim, ...] = ()
    # A half-open gate let the last token through as its probe. What opens the gate: create, image or check.
    probe: str | None = None
    limited: bool = False  # the gate let fewer tokens through than were found
    last_fresh: UUID | None = None  # the last fresh token in mint order that the statement found
    more: bool = False  # another claim may find more

    @property
    def held_back(self) -> bool:
        """Whether more tokens wait for the gate."""
        return self.limited or self.probe is not None

    def probe_of(self, claim: Claim) -> str | None:
        """What opens the gate, if this token is its probe; otherwise None."""
        return self.probe if claim is self.claims[-1] else None

    def then(self, later: Batch) -> Batch:
        """Add the next statement's tokens. After a statement with a probe there is no next one."""
        return replace(later, claims=self.claims + later.claims)


@dataclass(frozen=True, slots=True)
class Bought:
    """A prediction that was created for a claim, with the claim's seed."""

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
    """The token goes back to `detected`, to be claimed again in `due_in` seconds."""

    claim: Claim
    error: str
    error_type: str
    attempts: int
    due_in: float
    prediction_id: str | None
    purchase_over: bool  # seed and prediction id are removed, so the next attempt buys a new prediction


@dataclass(frozen=True, slots=True)
class Failed:
    """The token fails for good, with a reason."""

    claim: Claim
    error: str
    error_type: str
    attempts: int
    prediction_id: str | None
    exhausted: bool = False  # the last of several attempts, not a verdict on the token


@dataclass(frozen=True, slots=True)
class Released:
    """The token is handed back, and no attempt is counted: a stop or the account's state is not the token's fault."""

    claim: Claim
    reason: str | None
    error_type: str | None
    due_in: float
    prediction_id: str | None
    purchase_over: bool = False


Outcome = Succeeded | Retry | Failed | Released
