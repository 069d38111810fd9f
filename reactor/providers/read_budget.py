"""How many reads (GET requests) a worker may make.

Replicate allows an account 3,000 reads a minute. It also allows 600 creates a minute, which need up to two aimed polls
each (`polling.py`), 1,200 in all. `reads_per_second` leaves room for these, and is enough for 10 predictions in flight
to keep their bound. More than 10 share the reads, first come, first served. The pages of the listing share them too.

A 429 means that others read as well: other workers, or the rest of the account. This worker then stops all its reads
for as long as the 429 asks, but for LONGEST_PAUSE at most. A single answer should not stop the worker for minutes, and
if the answer was right, the next read gets another 429. The rate is halved, and recovers within two minutes.
"""

from __future__ import annotations

from reactor.providers.limits import LIMITS, Limits

LEAST_PER_SECOND = 1.0
RECOVERY = 0.2  # reads a second, each second
LONGEST_PAUSE = 5.0  # seconds


class ReadBudget:
    """Spreads reads over time. Times are seconds of the caller's monotonic clock."""

    def __init__(self, *, limits: Limits = LIMITS) -> None:
        self._most, self._at_once = limits.reads_per_second, limits.reads_at_once
        self._rate = self._most
        self._changed_at = float("inf")  # when the rate last changed
        self._booked_until = float("-inf")
        self._counted_until = float("-inf")  # a refusal before this time belongs to one that already halved the rate
        self._resumed_until = float("-inf")  # the last time that was given out for after the pause
        self.paused_until = float("-inf")  # no read is made before this time

    def book(self, now: float, due: float) -> float:
        """Book a read; return the time, `due` or later, from which it may be made."""
        self._recover(now)
        at = max(due, self._booked_until - self._at_once)
        self._booked_until = max(self._booked_until, now) + 1.0 / self._rate
        return at

    def give_back(self) -> None:
        """Cancel the booking of a read that is not needed."""
        self._booked_until -= 1.0 / self._rate

    def time_after_pause(self) -> float:
        """A time after `paused_until`, a different one for each call, so that the waiting reads come one by one."""
        self._resumed_until = max(self._resumed_until, self.paused_until) + 1.0 / self._most
        return self._resumed_until

    def book_next(self, now: float) -> float:
        """Book a read that is due now but can wait; return the time to make it."""
        at = self.book(now, now)
        return at if at > self.paused_until else self.time_after_pause()

    def refused(self, now: float, wait: float) -> None:
        """Note that a read was answered 429. Several that were under way at the same time count as one."""
        if now >= self._counted_until:
            self._recover(now)
            self._rate = max(self._rate / 2.0, LEAST_PER_SECOND)
            self._counted_until = now + wait
        self.paused_until = max(self.paused_until, now + min(wait, LONGEST_PAUSE))
        self._booked_until = max(self._booked_until, self.paused_until + self._at_once)

    def _recover(self, now: float) -> None:
        self._rate = min(self._rate + RECOVERY * max(0.0, now - self._changed_at), self._most)
        self._changed_at = now
