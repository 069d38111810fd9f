"""Counts failures in a row, and rests this worker if it alone does not reach the provider.

    works ──threshold failures in a row──▶ answered: the whole fleet's gate is closed, see gate.py
      ▲                                 └▶ not answered: this worker rests ──time passes──▶ one token ──▶ …
      └───────────────────────────────── a create is accepted ─────────────────────────────────┘

An accepted create ends a series of refused creates. Only an image ends a series of failed predictions, because creates
are accepted even while the model is out of order. The one token after a rest is called the trial.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from reactor.engine.timings import Timings
    from reactor.tokens import Key

    Fence = tuple[Key, int]


class Breaker:
    """Breaks after `threshold` failures in a row; 0: never."""

    def __init__(self, threshold: int, *, timings: Timings, clock: Callable[[], float] = time.monotonic) -> None:
        self._threshold = threshold
        self._timings = timings
        self._clock = clock
        self._refused = 0  # creates
        self._failed = 0  # predictions
        self._prompts: set[int] = set()  # hashes of the prompts that may be the reason for a failed prediction
        self._rest = 0.0  # seconds; 0: it does not rest
        self._rests_until = 0.0  # monotonic seconds
        self._trial: Fence | None = None

    def failed(self, *, bought: bool, prompt: str | None = None) -> bool:
        """Count a failed create or, if something was bought, a failed prediction; return whether it breaks.

        `prompt` is given if it may be the reason. All failures of one prompt count as one: the prompt of one author
        must not stop everybody's tokens, but a model that fails for every prompt must.
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
        """Note that an image is there: the row of failed predictions ends."""
        self._failed = 0
        self._prompts.clear()

    def accepted(self) -> bool:
        """Note an accepted create; return whether it ended a rest."""
        self._refused = 0
        return self.answered()

    def answered(self) -> bool:
        """Note any answer: it shows that this worker reaches the provider. Return whether it ended a rest."""
        rested, self._rest, self._trial = self._rest > 0, 0.0, None
        return rested

    @property
    def on(self) -> bool:
        """Whether the breaker is in use."""
        return self._threshold > 0

    def rest(self, fence: Fence) -> float | None:
        """Rest because this claim failed; return for how many seconds, None if the worker rests already.

        If the trial fails too, the next rest is twice as long.
        """
        if self._rest and self._trial != fence:
            return None
        self._trial = None
        self._rest = min(max(self._timings.first_rest, 2 * self._rest), self._timings.longest_rest)
        self._rests_until = self._clock() + self._rest
        return self._rest

    @property
    def resting(self) -> float:
        """Seconds until this worker may try again; 0: now."""
        return max(0.0, self._rests_until - self._clock()) if self._rest else 0.0

    def room(self, slots: int) -> int:
        """How many of the free slots may be filled: none during a rest, then one for the trial."""
        if not self._rest:
            return slots
        return 0 if self.resting > 0 else min(slots, 1)

    def remember_trial(self, fence: Fence) -> None:
        """Remember the claim after a rest as the trial. The next claim waits until it ends or another rest is over."""
        if self._rest:
            self._trial = fence
            self._rests_until = self._clock() + self._rest

    def cancel_trial(self, fence: Fence) -> bool:
        """If this claim is the trial, it showed nothing: the next claim is the trial. Return whether it was."""
        if self._trial != fence:
            return False
        self._trial, self._rests_until = None, 0.0
        return True
