"""How many reads a worker has to spare.

Replicate answers 3,000 reads a minute for an account. It allows 600 creates a minute, which need up to two aimed looks
each (`looks.py`): 1,200. PER_SECOND leaves room for them, and is what the looks of 10 predictions in flight need to
keep their bound. More than 10 share the reads, first come, first served. So do the pages of the listing.

A 429 says that others read too: other workers, or the rest of the account. Then no look of this worker is made for as
long as the 429 names, but for LONGEST_SHUT at most: a single answer should not stop the worker for minutes, and if it
was right, the next look gets another one. The rate is halved, and recovers within two minutes.
"""

from __future__ import annotations

PER_SECOND = 24.0
LEAST_PER_SECOND = 1.0
RECOVERY = 0.2  # reads a second, each second
LONGEST_SHUT = 5.0  # seconds
BURST = 10.0  # seconds' worth that may be read at once


class ReadBudget:
    """Paces the reads to spare. Moments are seconds of the caller's monotonic clock."""

    def __init__(self) -> None:
        self._rate = PER_SECOND
        self._changed_at = float("inf")  # the rate
        self._booked_until = float("-inf")
        self._counted_until = float("-inf")  # a refusal before is one of those that were counted
        self._resumed_until = float("-inf")
        self.shut_until = float("-inf")  # for any read

    def book(self, now: float, due: float) -> float:
        """Book a read; the moment, `due` or later, from which it is to spare."""
        self._recover(now)
        at = max(due, self._booked_until - BURST)
        self._booked_until = max(self._booked_until, now) + 1.0 / self._rate
        return at

    def give_back(self) -> None:
        """A read that was booked is not needed."""
        self._booked_until -= 1.0 / self._rate

    def turn(self) -> float:
        """A moment for a look that has to wait for `shut_until`: one after the other."""
        self._resumed_until = max(self._resumed_until, self.shut_until) + 1.0 / PER_SECOND
        return self._resumed_until

    def moment(self, now: float) -> float:
        """Book a read that can wait; the moment to make it."""
        at = self.book(now, now)
        return at if at > self.shut_until else self.turn()

    def refused(self, now: float, wait: float) -> None:
        """A read was answered 429. Several that were under way at once count as one."""
        if now >= self._counted_until:
            self._recover(now)
            self._rate = max(self._rate / 2.0, LEAST_PER_SECOND)
            self._counted_until = now + wait
        self.shut_until = max(self.shut_until, now + min(wait, LONGEST_SHUT))
        self._booked_until = max(self._booked_until, self.shut_until + BURST)

    def _recover(self, now: float) -> None:
        self._rate = min(self._rate + RECOVERY * max(0.0, now - self._changed_at), PER_SECOND)
        self._changed_at = now
