"""When to look whether a prediction has ended.

The first look comes just before the quickest of the last ones ended, the next ones shortly after it, and from then on
in steps that grow with the prediction's age: what ended is seen a seventh of its time later at most. A model that
always takes as long costs three looks a prediction; the account may read 3,000 times a minute.
"""

from __future__ import annotations

import random
from collections import deque

FIRST = 0.15  # seconds of age; nothing is known of the model yet
STEP, LONGEST_STEP = 0.1, 2.0  # seconds between looks
AROUND, TIGHT_STEP = 0.1, 0.05  # seconds of age around the usual one, and between looks then
GROWTH = 0.15  # of the age
REMEMBERED = 20  # predictions


class Looks:
    """Learns how long a model takes. Ages are seconds since the create was answered."""

    def __init__(self) -> None:
        self._lately: deque[float] = deque(maxlen=REMEMBERED)

    @property
    def _usual(self) -> float:
        return min(self._lately, default=0.0)

    def first(self, *, recorded: bool = False) -> float:
        """The age at which to look first: a step before the quickest of the last ones was seen to have ended.

        One that an earlier claim has `recorded` may have ended long ago.
        """
        return FIRST if recorded else max(FIRST, self._usual - AROUND)

    def step(self, age: float) -> float:
        """Seconds from a look at this age to the next, ± 10 %."""
        tight = abs(age - self._usual) <= AROUND
        step = TIGHT_STEP if tight else min(max(STEP, GROWTH * age), LONGEST_STEP)
        return step * random.uniform(0.9, 1.1)  # noqa: S311  (jitter)

    def ended(self, age: float) -> None:
        """A prediction was seen to have ended with its image."""
        self._lately.append(age)
