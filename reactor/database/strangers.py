"""Which roles hold one of our advisory locks although they are no workers, and when that is worth saying.

Any role that may connect can hold them. A producer does so for microseconds, in its trigger: a look that happens to
find one is no news. So looks are counted in which nobody but strangers held the lock. They are counted by role, because
several sessions of one role may take turns. A lock that stays theirs for LOOKS looks is said, once.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import inf

LOOKS = 5
APART = 1.0  # seconds; two looks that are closer count as one
SPELL = 10.0  # seconds without a look, after which the count begins anew
NAMED = 5  # roles at most


@dataclass(slots=True)
class Strangers:
    """What one worker knows of the strangers that hold one lock."""

    told: bool = False
    _looks: int = 0
    _last: float = -inf
    _seen: Counter[str] = field(default_factory=Counter)
    _processes: dict[str, int] = field(default_factory=dict)

    def none(self) -> None:
        """The lock is ours, or another worker's."""
        self.told, self._looks, self._last = False, 0, -inf
        self._seen.clear()

    def found(self, holders: dict[str, int], now: float) -> str | None:
        """Only these hold the lock: role → a process of it. Return whom to name, if that is news.

        `now`: seconds of any clock that never goes back.
        """
        if now - self._last < APART:
            return None
        if now - self._last > SPELL:
            self._looks = 0
            self._seen.clear()
        self._last = now
        self._looks += bool(holders)
        self._seen.update(holders.keys())
        self._processes = {role: pid for role, pid in (self._processes | holders).items() if role in self._seen}
        if self.told or self._looks < LOOKS:
            return None
        self.told = True
        named = self._seen.most_common(NAMED)
        return ", ".join(f"{role} (process {self._processes[role]})" for role, _ in named)
