"""Which roles hold one of our advisory locks although they are no workers, and when to log that.

Any role that may connect can hold them. A producer's trigger holds one for microseconds, so one look that finds such a
holder means nothing. We count the looks in which only strangers held the lock. Holders are counted by role, because
several sessions of one role may take turns. A lock that strangers hold in `needed` looks is logged, once.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import inf

LONGEST_GAP = 10.0  # seconds between two looks; after a longer one the count starts over
MOST_NAMED = 5  # roles


@dataclass(slots=True)
class Strangers:
    """The strangers that one worker has seen hold one lock."""

    needed: int  # looks until they are reported
    apart: float  # seconds; two looks that are closer count as one
    told: bool = False
    _looks: int = 0
    _last: float = -inf
    _seen: Counter[str] = field(default_factory=Counter)
    _processes: dict[str, int] = field(default_factory=dict)

    def none(self) -> None:
        """The lock is ours, or another worker's: start over."""
        self.told, self._looks, self._last = False, 0, -inf
        self._seen.clear()

    def found(self, holders: dict[str, int], now: float) -> str | None:
        """Only strangers hold the lock: role → one of its processes. Return the words to log, if it is time to.

        `now`: seconds of any clock that never goes back.
        """
        if now - self._last < self.apart:
            return None
        if now - self._last > LONGEST_GAP:
            self._looks = 0
            self._seen.clear()
        self._last = now
        self._looks += bool(holders)
        self._seen.update(holders.keys())
        self._processes = {role: pid for role, pid in (self._processes | holders).items() if role in self._seen}
        if self.told or self._looks < self.needed:
            return None
        self.told = True
        named = self._seen.most_common(MOST_NAMED)
        return ", ".join(f"{role} (process {self._processes[role]})" for role, _ in named)
