"""Goes around tokens that the database refuses to let us claim.

A host's CHECK or trigger can refuse that a row becomes `generating`. That fails the whole claim statement, so such
tokens would block the head of the queue for ever. A row for which PROMPT_SQL raises does the same, and its token fails.

After a refusal a round begins. It reads the tokens that a claim would take, and claims them: first one by one, then
more in one statement as long as none is refused. Refused tokens are passed by their place: later claims start behind
the last of them, and cost no more than before. Now and then a new round begins at the front. It finds tokens that came
in before that place, and tokens that are no longer refused. A round consists of goes. Each go is one call of `claim`:

    begin ──▶ go ──▶ an ordinary claim ──▶ go ──▶ … ──▶ end: ordinary claims behind the refused, until the next round

A refusal costs the server an aborted transaction and a line in its log. So refused tokens are remembered,
MOST_REMEMBERED at most, and a round tries only a few of them again. No statement has to carry their list.

After MOST_TRIES refusals the round gallops: of the tokens that it reads it tries only SAMPLE. If all of these are
refused, it passes everything that it read, and reads twice as many next. If one is claimed, it reads fewer, and soon
goes one by one again. A later round meets the tokens that were passed untried.
"""

from __future__ import annotations

import random
import time
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

from reactor import events
from reactor.database.connections import REFUSED, DatabaseError
from reactor.errors import PermanentError
from reactor.text.messages import message_of
from reactor.tokens import FRONT, Batch, Place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reactor.database.connections import HostRefusedError, RowRefusedError
    from reactor.database.store import Store
    from reactor.engine.timings import Timings
    from reactor.telemetry import Telemetry
    from reactor.tokens import Key, Waiting

LOOK_AT, WIDEST, NARROW = 1000, 8000, 250  # tokens that one go reads: at first; at most; below NARROW a gallop ends
MOST_REFUSALS = 100  # in one go; then the go ends, because the tokens that it claimed have to start
MOST_TRIES = 300  # refusals in one round before it gallops
SAMPLE = 3  # tokens that a gallop tries in one go
MOST_AGAIN = 20  # remembered tokens that one round tries again
MOST_REMEMBERED = 10_000  # refused tokens
# The pause between two rounds, in durations of the last round. `longest_between_rounds` limits it, but it is never less
# than LEAST_FOR.
ROUND_FOR, LEAST_FOR = 20.0, 4.0


class Detour:
    """The refused tokens, the place behind them, and the rounds that pass them."""

    def __init__(
        self,
        store: Store,
        telemetry: Telemetry,
        *,
        timings: Timings,
        most_again: int = MOST_AGAIN,
        most_remembered: int = MOST_REMEMBERED,
    ) -> None:
        self._store = store
        self._telemetry = telemetry
        self._timings = timings
        self._most_again, self._most_remembered = most_again, most_remembered
        self._refused: dict[Key, tuple[float, float]] = {}  # until when, in monotonic seconds, and for how long
        self._again = 0  # refused tokens that may still be tried in this round
        self._tries = 0  # refusals that this round may still meet before it gallops
        self._window = LOOK_AT  # tokens that the next go reads
        self.under_way = False  # a round is under way, so the next tokens may be refused ones
        self._met = False  # this round passed a refused token
        self._began = 0.0  # monotonic seconds
        self._next_round = float("inf")  # monotonic seconds
        self._at = FRONT  # the place behind the refused tokens that were passed
        self._known = FRONT  # where the last round ended, while a new one is under way from the front
        self.more = False  # the last go may have left tokens

    @property
    def due(self) -> bool:
        """Whether the next claim has to be made here."""
        return self.under_way or time.monotonic() >= self._next_round

    @property
    def place(self) -> Place:
        """The place behind which ordinary claims start."""
        return self._at if self._known == FRONT else self._known

    @property
    def leaves_room(self) -> bool:
        """Whether an ordinary claim may find tokens that the round under way has not reached yet."""
        return self.under_way and self._known != FRONT

    def begin(self, place: Place) -> None:
        """Begin a round because a claim behind this place was refused."""
        self._begin(place)
        self._known, self._met = FRONT, True

    def _begin(self, place: Place) -> None:
        self._known, self._at = self._at, place
        self._began = time.monotonic()
        self.under_way, self._met = True, False
        self._again, self._tries, self._window = self._most_again, MOST_TRIES, LOOK_AT

    async def claim(self, slots: int, worker: int) -> Batch:
        """Make one go: claim up to `slots` of the next tokens, passing refused ones. Raises DatabaseError."""
        if not self.under_way:
            self._begin(FRONT)
        found = await self._store.look(self._window, self._at)
        now = time.monotonic()
        passed = {token.id for token in found if self._is_passed(token.id, now)}
        at_the_end, galloping = len(found) < self._window, self._tries <= 0
        if galloping:
            batch, reached = await self._gallop(found, worker, passed)
        else:
            batch, reached = await self._walk(found, slots, worker, passed)
        self._at = _behind([token for token in found[:reached] if token.id in passed], self._at)
        self._met |= bool(passed)
        at_the_end &= reached == len(found)
        self.more = not at_the_end or len(batch.claims) == slots
        if at_the_end or not (passed or galloping):
            self._end(over=at_the_end and not self._met)
        return batch

    def _end(self, *, over: bool) -> None:
        """End the round; ordinary claims follow. `over`: no token is refused any more, so no round follows."""
        self.under_way, self._known = False, FRONT
        now = time.monotonic()
        took = now - self._began
        between = min(ROUND_FOR * took, self._timings.longest_between_rounds)
        self._next_round = now + max(LEAST_FOR * took, between)
        if over:
            self._refused.clear()
            self._at, self._next_round = FRONT, float("inf")

    async def _walk(self, found: Sequence[Waiting], slots: int, worker: int, passed: set[Key]) -> tuple[Batch, int]:
        """Claim tokens in turn, add refused ones to `passed`; return the claims, and how many tokens were reached."""
        candidates = [token for token in found if token.id not in passed]
        batch = Batch()
        tried, together, tries = 0, 1, min(self._tries, MOST_REFUSALS)
        while tried < len(candidates) and len(batch.claims) < slots and tries > 0:
            some = candidates[tried : tried + min(together, slots - len(batch.claims))]
            try:
                new = await self._claimed(some, worker)
            except REFUSED:
                together = max(1, len(some) // 2)
                if len(some) == 1:
                    passed.add(some[0].id)
                    tried, tries, self._tries = tried + 1, tries - 1, self._tries - 1
            except DatabaseError:
                if not batch.claims:
                    raise
                break  # start what was claimed; the next claim meets the error
            else:
                batch = batch.then(new)
                if new.held_back:
                    break
                tried, together = tried + len(some), 2 * together
        reached = found.index(candidates[tried]) if tried < len(candidates) else len(found)
        passed.intersection_update(token.id for token in found[:reached])
        return batch, reached

    async def _gallop(self, found: Sequence[Waiting], worker: int, passed: set[Key]) -> tuple[Batch, int]:
        """Try the last token and a few others. If all are refused, pass all that were read; else read fewer."""
        candidates = [token for token in found if token.id not in passed]
        tried = {*candidates[-1:], *random.sample(candidates, min(SAMPLE - 1, len(candidates)))}
        for token in tried:
            with suppress(*REFUSED):
                batch = await self._claimed([token], worker)
                self._look_at_fewer(len(found) // 4)
                return batch, 0
        passed.update(token.id for token in found)
        self._window = min(2 * self._window, WIDEST)
        return Batch(), len(found)

    def _look_at_fewer(self, tokens: int) -> None:
        """Read that many tokens in the next go. If they are fewer than NARROW, stop galloping."""
        self._window = tokens
        if tokens < NARROW:
            self._tries, self._window = MOST_REFUSALS, LOOK_AT

    async def _claimed(self, tokens: Sequence[Waiting], worker: int) -> Batch:
        """Claim tokens in one statement; remember a token that is refused by itself. Raises DatabaseError."""
        try:
            batch = await self._store.claim_among([token.id for token in tokens], worker)
        except REFUSED as error:
            if len(tokens) == 1:
                if await self._failed(tokens[0]):
                    return Batch()
                self._refuse(tokens[0], error)
            raise
        if any(claim.id in self._refused for claim in batch.claims):
            self._refused.clear()  # the reason may be gone for all: try the others again too
        return batch

    async def _failed(self, token: Waiting) -> bool:
        """Fail the token if PROMPT_SQL raises for its row: no claim can ever take it. Return whether it failed."""
        reason = await self._store.fail_if_unreadable(token.id)
        if reason is not None:
            error = {"error_type": PermanentError.__name__, "error_message": reason}
            self._telemetry.emit(events.GENERATION_FAILED, token_id=token.token_id, **error)
        return reason is not None

    def _is_passed(self, token: Key, now: float) -> bool:
        """Whether a token was refused and must wait before its next try. Counts the tokens that may be tried again."""
        until, _ = self._refused.get(token, (0.0, 0.0))
        if until == 0.0:
            return False
        if until > now or self._again <= 0:
            return True
        self._again -= 1
        return False

    def _refuse(self, token: Waiting, error: RowRefusedError | HostRefusedError) -> None:
        fields = {"error_type": error.kind, "error_message": message_of(error)}
        _, before = self._refused.pop(token.id, (0.0, 0.0))
        if not before:
            self._telemetry.emit(events.WORKER_ERROR, role="claimer", token_id=token.token_id, **fields)
        for oldest in list(islice(self._refused, max(0, len(self._refused) + 1 - self._most_remembered))):
            del self._refused[oldest]
        seconds = min(max(self._timings.refused_token, 2 * before), self._timings.longest_refused_token)
        self._refused[token.id] = time.monotonic() + seconds, seconds


def _behind(passed: Sequence[Waiting], place: Place) -> Place:
    """Return the place behind the last passed tokens."""
    fresh = [token.id for token in passed if token.fresh]
    retries = [token.id for token in passed if not token.fresh]
    return Place(fresh[-1] if fresh else place.fresh, retries[-1] if retries else place.retry)
