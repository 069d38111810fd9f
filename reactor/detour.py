"""Goes around tokens that the database refuses to let us claim.

A host's CHECK or trigger can refuse that a row becomes `generating`, and with it the whole claim: its tokens would
stand at the head of the queue for ever.

After a refusal we look at the tokens that a claim would take, and claim them one by one, then more together as long as
that goes well. Tokens that are refused are passed by their place: claims go on behind the last of them, and cost no
more than before. From time to time we look from the front again, for what came in behind that place and for what is
refused no longer.

Refused tokens are remembered so that a look need not try them all again: a refusal costs the server an aborted
transaction and a line in its log. What is remembered is bounded, and no statement has to carry it.
"""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING

from reactor.database import REFUSED, DatabaseError
from reactor.messages import message_of
from reactor.tokens import FRONT, Place

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from reactor.database import HostRefusedError, RowRefusedError
    from reactor.store import Store
    from reactor.telemetry import Telemetry
    from reactor.tokens import Claim, Waiting

LOOK_AT = 1000  # tokens at once
MOST_REFUSALS = 100  # in one go: then what was claimed has to start
MOST_AGAIN = 20  # tokens that are tried again in one round from the front
MOST_REMEMBERED = 10_000  # refused tokens
AGAIN_AFTER, LONGEST_AFTER = 5.0, 300.0  # seconds until a refused token is tried again, twice as many each time
ROUND_FOR, LONGEST_BETWEEN = 20.0, 1.0  # times what a round takes until the next begins; seconds


class Detour:
    """The refused tokens, the place behind them, and the rounds that pass them."""

    def __init__(self, store: Store, telemetry: Telemetry) -> None:
        self._store = store
        self._telemetry = telemetry
        self._refused: dict[UUID, tuple[float, float]] = {}  # until when, in monotonic seconds, and for how long
        self._again = 0  # refused tokens that may still be tried in this round
        self._under_way = False  # the next tokens may be refused ones
        self._met = False  # this round passed a refused token
        self._began = 0.0  # monotonic seconds
        self._next_round = float("inf")  # monotonic seconds
        self.place = FRONT  # behind the refused tokens that were passed
        self.more = False  # the last go may have left some

    @property
    def due(self) -> bool:
        """Whether the next tokens are to be claimed here."""
        return self._under_way or time.monotonic() >= self._next_round

    def begin(self, place: Place) -> None:
        """A claim behind this place was refused."""
        self._begin(place)
        self._met = True

    def _begin(self, place: Place) -> None:
        self.place = place
        self._began = time.monotonic()
        self._under_way, self._met, self._again = True, False, MOST_AGAIN

    async def claim(self, slots: int, worker: int) -> list[Claim]:
        """Claim up to `slots` of the next LOOK_AT tokens, passing refused ones. Raises DatabaseError."""
        if not self._under_way:
            self._begin(FRONT)
        found = await self._store.look(LOOK_AT, self.place)
        now = time.monotonic()
        passed = {token.id for token in found if self._is_passed(token.id, now)}
        candidates = [token for token in found if token.id not in passed]
        claims, tried = await self._claim_some(candidates, slots, worker, passed)
        reached = found if tried == len(candidates) else found[: found.index(candidates[tried])]
        passed.intersection_update(token.id for token in reached)
        self.place = _behind([token for token in reached if token.id in passed], self.place)
        self._met |= bool(passed)
        at_the_end = len(reached) == len(found) < LOOK_AT
        self.more = not at_the_end or len(claims) == slots
        if at_the_end or not passed:
            self._end(over=at_the_end and not self._met)
        return claims

    def _end(self, *, over: bool) -> None:
        """Leave the next tokens to ordinary claims until the next round; for good if nothing is refused any more."""
        self._under_way = False
        now = time.monotonic()
        took = now - self._began
        self._next_round = now + max(took, min(ROUND_FOR * took, LONGEST_BETWEEN))
        if over:
            self._refused.clear()
            self.place, self._next_round = FRONT, float("inf")

    async def _claim_some(
        self, candidates: Sequence[Waiting], slots: int, worker: int, passed: set[UUID]
    ) -> tuple[list[Claim], int]:
        """Claim what is not refused, else add it to `passed`; return the claims, and how many were tried."""
        claims: list[Claim] = []
        tried, together, refusals = 0, 1, 0
        while tried < len(candidates) and len(claims) < slots and refusals < MOST_REFUSALS:
            some = candidates[tried : tried + min(together, slots - len(claims))]
            try:
                new = await self._store.claim_among([token.id for token in some], worker)
            except REFUSED as error:
                together = max(1, len(some) // 2)
                if len(some) == 1:
                    self._refuse(some[0], error)
                    passed.add(some[0].id)
                    tried, refusals = tried + 1, refusals + 1
            except DatabaseError:
                if not claims:
                    raise
                break  # the next claim meets it
            else:
                claims += new
                if any(claim.id in self._refused for claim in new):
                    self._refused.clear()  # the reason is gone, so the others are tried again too
                if any(claim.limited or claim.probe for claim in new):
                    break  # by the gate: the others wait
                tried, together = tried + len(some), 2 * together
        return claims, tried

    def _is_passed(self, token: UUID, now: float) -> bool:
        """Whether a token was refused and is not tried again yet."""
        until, _ = self._refused.get(token, (0.0, 0.0))
        if until == 0.0:
            return False
        if until > now or self._again <= 0:
            return True
        self._again -= 1
        return False

    def _refuse(self, token: Waiting, error: RowRefusedError | HostRefusedError) -> None:
        told = {"error_type": error.kind, "error_message": message_of(error)}
        _, before = self._refused.pop(token.id, (0.0, 0.0))
        if not before:
            self._telemetry.emit("worker.error", role="claimer", token_id=token.token_id, **told)
        for oldest in list(islice(self._refused, max(0, len(self._refused) + 1 - MOST_REMEMBERED))):
            del self._refused[oldest]
        seconds = min(max(AGAIN_AFTER, 2 * before), LONGEST_AFTER)
        self._refused[token.id] = time.monotonic() + seconds, seconds


def _behind(passed: Sequence[Waiting], place: Place) -> Place:
    fresh = [token.id for token in passed if token.fresh]
    retries = [token.id for token in passed if not token.fresh]
    return Place(fresh[-1] if fresh else place.fresh, retries[-1] if retries else place.retry)
