"""A token as a worker holds it, and the outcomes by which the worker gives it up.

One constructor per legal transition out of `generating`:

    Succeeded → uploading      Retry → detected, due later, counted
    Failed    → failed         Released → detected, nothing counted
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, assert_never
from uuid import UUID

if TYPE_CHECKING:
    from datetime import datetime

Key = UUID | int | str  # of a token: the value of the table's primary key
UNFINISHED = frozenset({"detected", "generating"})  # statuses of a token that has not failed, and has no image yet
LONGEST_PROMPT = 1000  # characters; a claim returns at most one more
PREDICTION_ID = re.compile(r"\w[\w.-]{0,199}", re.ASCII)  # it becomes a part of a URL's path
_IDS = "-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"  # of a trace and a span, and the flags
# As the W3C defines it. A version after 00 may go on behind what we read, and there is no version ff.
TRACEPARENT = re.compile(rf"00{_IDS}\Z|(?!00|ff)[0-9a-f]{{2}}{_IDS}(?=-|\Z)")


def known_as(token_id: Any, key: Key) -> int | str:
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

    fresh: Key | None = None
    retry: Key | None = None


FRONT = Place()


@dataclass(frozen=True, slots=True)
class Waiting:
    """A token that a claim would take."""

    id: Key
    token_id: int | str  # see known_as
    fresh: bool  # no due time: newly minted, or set back by `reactor retry`


@dataclass(frozen=True, slots=True)
class Claim:
    """A token in `generating`. It is ours until another worker raises its epoch."""

    id: Key
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
    traceparent: str | None = None  # see TRACEPARENT: of the transaction that inserted the token

    @property
    def fence(self) -> tuple[Key, int]:
        """A pair that identifies this claim: no other claim has the same."""
        return self.id, self.epoch


@dataclass(frozen=True, slots=True)
class Batch:
    """The result of one claim statement: its tokens, in mint order, and the state of the gate and of the queue."""

    claims: tuple[Claim, ...] = ()
    # If a half-open gate let the last token through as its probe: what opens the gate (create, image or check).
    probe: str | None = None
    limited: bool = False  # the gate let fewer tokens through than were found
    last_fresh: Key | None = None  # the last fresh token in mint order that the statement found
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
class Receipt:
    """What is known of a purchase besides its prediction's id; of no purchase, nothing."""

    bought_at: float | None = None  # monotonic seconds, when its create was answered; None if an earlier claim bought
    predict_seconds: float | None = None  # that the model ran, as the provider says
    images: int | None = None  # outputs that were paid for; None: it has not ended, as far as we know
    web_url: str | None = None  # the provider's page about it
    recorded: bool = False  # this worker has written its id into the row


NO_RECEIPT = Receipt()


@dataclass(frozen=True, slots=True)
class Rejected:
    """The prompt of a purchase was rejected for the first time; the attempt goes on with the fallback prompt."""

    claim: Claim
    error: str
    error_type: str
    prediction_id: str | None
    receipt: Receipt = NO_RECEIPT

    @property
    def attempts(self) -> int:
        """The attempts that count now: a rejection is one."""
        return self.claim.attempts + 1


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The image is there."""

    claim: Claim
    image_url: str
    prediction_id: str
    receipt: Receipt = NO_RECEIPT


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
    receipt: Receipt = NO_RECEIPT


@dataclass(frozen=True, slots=True)
class Failed:
    """The token fails for good, with a reason."""

    claim: Claim
    error: str
    error_type: str
    attempts: int
    prediction_id: str | None
    exhausted: bool = False  # True: the last allowed attempt failed; False: the error itself is final
    receipt: Receipt = NO_RECEIPT


@dataclass(frozen=True, slots=True)
class Released:
    """The token is handed back, and no attempt is counted: a stop or the account's state is not the token's fault."""

    claim: Claim
    reason: str | None
    error_type: str | None
    due_in: float
    prediction_id: str | None
    purchase_over: bool = False
    receipt: Receipt = NO_RECEIPT


Outcome = Succeeded | Retry | Failed | Released
TIMED_OUT, AT_ITS_DEADLINE = "Timed out after", "at its deadline"  # by these texts a purchase counts as timed out


def became(outcome: Outcome) -> str | None:
    """What became of the purchase, as purchases.sql says it; None if there is none, or it has not ended."""
    match outcome:
        case Succeeded():
            return "used"
        case Retry() | Released() if outcome.receipt.images is None:
            return None
        case _ if outcome.prediction_id is None:
            return None
        case Released():
            return "failed"
        case Retry() | Failed():
            slow = outcome.error.startswith(TIMED_OUT) or AT_ITS_DEADLINE in outcome.error
            return "timed_out" if slow else "failed"
        case _:
            assert_never(outcome)
