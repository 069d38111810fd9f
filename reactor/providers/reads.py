"""How many reads a worker has to spare.

Replicate answers 3,000 reads a minute for an account. It allows 600 creates a minute, which need up to two aimed looks
each (`looks.py`): 1,200. PER_SECOND leaves room for them, and is what the looks of 10 predictions in flight need to
keep their bound. More than 10 share the reads, first come, first served.

A 429 says that others read too: other workers, or the rest of the account. Then no look of this worker is made for as
long as the 429 names, and the rate is halved. It recovers within two minutes.
"""

from __future__ import annotations

PER_SECOND = 24.0
LEAST_PER_SECOND = 1.0
RECOVERY = 0.2  # reads a second, each second
BURST = 10.0  # seconds' worth that may be read at once


class Reads:
    """Paces the reads to spare. Moments are seconds of the caller's monotonic clock."""

    def __init__(self) -> None:
        self._rate = PER_SECOND
        self._changed_at = float("inf")
        self._booked_until = float("-inf")
        self._counted_until = float("-inf")
        self._resumed_until = float("-inf")
        self.shut_until = float("-inf")  # for any read

    def earliest(self, at: float) -> float:
        """The moment, `at` or later, from which another read is to spare."""
        return max(at, self._booked_until - BURST)

    def take(self, now: float) -> None:
        """Book one."""
        self._rate = min(self._rate + RECOVERY * max(0.0, now - self._changed_at), PER_SECOND)
        self._changed_at = now
        self._booked_until = max(self._booked_until, now) + 1.0 / self._rate

    def after_shut(self) -> float:
        """A moment for a look that has to wait for `shut_until`: one after the other."""
        self._resumed_until = max(self._resumed_until, self.shut_until) + 1.0 / PER_SECOND
        return self._resumed_until

    def refused(self, now: float, wait: float) -> None:
        """A read was answered 429. Several that were under way at once count as one."""
        if now >= self._counted_until:
            self._rate = max(self._rate / 2.0, LEAST_PER_SECOND)
            self._counted_until = now + wait
        self.shut_until = max(self.shut_until, now + wait)
        self._booked_until = max(self._booked_until, self.shut_until + BURST)
