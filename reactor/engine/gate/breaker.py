"""Counts failures that come in a row, and rests this worker where it alone reaches nobody.

    works ──threshold failures in a row──▶ answered: the whole fleet's gate is closed, see gate.py
      ▲                                 └▶ not answered: this worker rests ──time passes──▶ one token ──▶ …
      └───────────────────────────────── a create is accepted ─────────────────────────────────┘

A create that is accepted ends a row of refused ones, an image a row of predictions that failed: during an outage of the
model its creates are accepted all the same.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

    from reactor.engine.timings import Timings

    Fence = tuple[UUID, int]


class Breaker:
    """`threshold` failures in a row break; 0: never."""

    def __init__(self, threshold: int, *, timings: Timings) -> None:
        self._threshold = threshold
        self._timings = timings
        self._refused = 0  # creates
        self._failed = 0  # predictions
        self._prompts: set[int] = set()  # of those among them whose prompt may be the reason
        self._rest = 0.0  # seconds; 0: it works
        self._rests_until = 0.0  # monotonic seconds
        self._trying: Fence | None = None

    def failed(self, *, bought: bool, prompt: str | None = None) -> bool:
        """Count a failure of a create or, where something was bought, of a prediction; return whether it broke.

        `prompt` is given if it may be the reason. All failures of one prompt count as one, because the prompt of one
        author must not halt everybody's tokens, and a model that fails for every prompt must.
        """
        if bought:
            self._failed += self._is_news(prompt)
        else:
            self._refused += 1
        return 0 < self._threshold <= (self._failed if bought else self._refused)

    def _is_news(self, prompt: str | None) -> bool:
        if prompt is None or self._failed >= self._threshold:
            return True
        before = len(self._prompts)
        self._prompts.add(hash(prompt))
        return len(self._prompts) > before

    def succeeded(self) -> None:
        """An image is there."""
        self._failed = 0
        self._prompts.clear()

    def accepted(self) -> bool:
        """A create was accepted; return whether that ended a rest."""
        self._refused = 0
        return self.answered()

    def answered(self) -> bool:
        """The provider answered something, so this worker reaches it; return whether that ended a rest."""
        rested, self._rest, self._trying = self._rest > 0, 0.0, None
        return rested

    @property
    def on(self) -> bool:
        """Whether it breaks at all."""
        return self._threshold > 0

    def rest(self, fence: Fence) -> float | None:
        """Rest because of this claim; return for how many seconds, None where it rests already.

        Twice as long each time that the one token it tries with fails too.
        """
        if self._rest and self._trying != fence:
            return None
        self._trying = None
        self._rest = min(max(self._timings.first_rest, 2 * self._rest), self._timings.longest_rest)
        self._rests_until = time.monotonic() + self._rest
        return self._rest

    @property
    def resting(self) -> float:
        """Seconds until this worker may try again; 0: now."""
        return max(0.0, self._rests_until - time.monotonic()) if self._rest else 0.0

    def room(self, slots: int) -> int:
        """How many of the free slots may be filled: none while it rests, then one to try."""
        if not self._rest:
            return slots
        return 0 if self.resting > 0 else min(slots, 1)

    def tries(self, fence: Fence) -> None:
        """This claim was made: after a rest no other is, before it has told or as long a rest has passed."""
        if self._rest:
            self._trying = fence
            self._rests_until = time.monotonic() + self._rest

    def told_nothing(self, fence: Fence) -> bool:
        """This claim did not ask the provider for anything; return whether another is to be made for it."""
        if self._trying != fence:
            return False
        self._trying, self._rests_until = None, 0.0
        return True
