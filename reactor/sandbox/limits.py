"""The account's rate limits: one for creates and one for all other requests, as the real API has them."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from reactor.sandbox.bounds import is_within

MOST = 1_000_000  # requests a minute


@dataclass(frozen=True, slots=True)
class Limits:
    """Requests per minute; 0 is no limit. With low credit there are 6 creates a minute, one at a time."""

    creates: int = 0
    others: int = 0
    low_credit: bool = False

    def __post_init__(self) -> None:
        if not all(is_within(value, 0, MOST) for value in (self.creates, self.others)):
            raise ValueError(f"limits are 0 to {MOST} a minute")


class Bucket:
    """A token bucket of `burst` requests, refilled at `per_minute`."""

    def __init__(self, per_minute: int, burst: int) -> None:
        self._interval = 60.0 / per_minute if per_minute else 0.0
        self._burst = burst
        self._arrival = 0.0  # monotonic seconds: when the last request may pass at this rate

    def take(self) -> int | None:
        """Let a request pass and return None, or return the whole seconds until one may pass."""
        if not self._interval:
            return None
        now = time.monotonic()
        arrival = max(self._arrival, now)
        wait = arrival - self._interval * (self._burst - 1) - now
        if wait > 0:
            return math.ceil(wait)
        self._arrival = arrival + self._interval
        return None

    def remaining(self) -> int | None:
        """How many requests may pass now; None: no limit."""
        if not self._interval:
            return None
        return max(0, self._burst - math.ceil((self._arrival - time.monotonic()) / self._interval))


def buckets(limits: Limits) -> tuple[Bucket, Bucket]:
    """The bucket for creates, and the one for other requests. A burst is what ten seconds allow."""
    others = Bucket(limits.others, max(1, limits.others // 6))
    return (Bucket(6, 1) if limits.low_credit else Bucket(limits.creates, max(1, limits.creates // 6))), others
