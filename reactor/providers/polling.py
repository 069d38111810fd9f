"""When to poll a prediction.

The next poll is made at the earlier of two times:

1. The bound. Two polls are at most half a second apart, or a seventh of the prediction's age if that is more. So its
   end is noticed within half a second or a seventh of its own duration, even if everything we learnt is wrong.
2. The aim. A poll is aimed just behind the age at which earlier predictions ended. Of these ages, the one that saves
   the most waiting is taken, if it saves enough. If the aimed poll comes too early, others follow it soon, and the gap
   doubles each time.

We learn when predictions ended, not when we noticed it, because the provider tells how long each one took.

For a model with a constant duration the aim costs one poll more than the bound alone: three polls for a generation of
a second, five for two seconds, fifteen for eight. Fewer polls cannot keep the bound, because an end may come at any
time. The polls of the bound are paid from the read budget (`read_budget.py`), which is always enough for 10 predictions
in flight. If it is not enough, a poll of the bound waits up to ten seconds plus the prediction's age. The aimed polls,
about three per prediction, do not wait.
"""

from __future__ import annotations

from collections import deque
from itertools import count
from math import inf
from typing import TYPE_CHECKING

from reactor.backoff import jittered
from reactor.providers.limits import LIMITS, Limits
from reactor.providers.read_budget import ReadBudget

if TYPE_CHECKING:
    from reactor.providers import Prediction

# Seconds, and a share of the age. Less than the bound promises, because jitter and the answer's time are added to it.
GAP, GROWTH = 0.45, 0.125
JITTER = 0.05  # of a gap
FOLLOW_UP, FOLLOW_UP_GROWTH = 0.05, 0.02  # seconds, and a share of the age: between an early aimed poll and the next
MARGIN = 0.01  # seconds after a learnt end
LONGEST_PAUSE = 5.0  # seconds until the pause is computed again, because more may have been learnt by then
LONGEST_WAIT = 10.0  # seconds, plus the age: how long a poll of the bound waits for the read budget
LEAST_SAVING = 0.05  # what an aimed poll must save on average, as a share of the time to the next poll of the bound
NARROW = 2.0  # gaps: two polls closer than this tell when a prediction ended, if the provider gives no times
REMEMBERED = 20  # predictions


class PollHistory:
    """The ages at which the model's last predictions ended. An age is in seconds since the create was answered."""

    def __init__(self, *, limits: Limits = LIMITS) -> None:
        self.reads = ReadBudget(limits=limits)
        self.first = limits.first_poll
        self._ends: deque[float] = deque(maxlen=REMEMBERED)

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been learnt about the model."""
        return not self._ends

    def learn(self, age: float) -> None:
        """Remember that a prediction ended at this age."""
        self._ends.append(age)

    def best_age(self, age: float, latest: float) -> float | None:
        """The age, between `age` and `latest`, at which a poll saves the most; None if it saves too little.

        A poll just behind a learnt end spares every prediction that has ended by then the wait until `latest`.
        """
        ahead = sorted(end for end in self._ends if end > age)
        places = (max(end + MARGIN, age + FOLLOW_UP) for end in ahead)
        saved, place = max(
            ((ended * (latest - place), place) for ended, place in zip(count(1), places, strict=False)),
            default=(0.0, 0.0),
        )
        return place if saved > LEAST_SAVING * (latest - age) * len(ahead) else None


class PollSchedule:
    """When to poll one prediction. Times are seconds of the caller's monotonic clock; the schedule begins at `now`.

    `bought_in` is how many seconds the create took; None if somebody else bought the prediction, so its age is unknown.
    """

    def __init__(self, history: PollHistory, now: float, *, bought_in: float | None) -> None:
        self._history = history
        self._since = self._polled_at = self._running_at = now
        self._bought_in = bought_in
        # Seconds from the last poll to a follow-up; inf if none is wanted.
        self._follow_up = history.first if history.is_empty or bought_in is None else inf
        self._aimed = False  # whether the next poll is an aimed one
        self._bound_at: float | None = None  # when the bound asks for a poll, if no other comes first
        self._wait_until = self._resumes_at = -inf

    def pause(self, now: float) -> float:
        """Seconds until to ask this again; 0 means poll now."""
        reads, age = self._history.reads, self._polled_at - self._since
        if self._bound_at is None:
            due = self._polled_at + jittered(max(GAP, GROWTH * age), JITTER)
            self._bound_at = min(reads.book(now, due), due + LONGEST_WAIT + age)
        aim = None if self._bought_in is None else self._history.best_age(age, self._bound_at - self._since)
        self._aimed = aim is not None
        at = self._polled_at + self._follow_up if aim is None else self._since + aim
        at = max(min(at, self._bound_at), self._wait_until)
        if at <= reads.paused_until:
            if self._resumes_at <= reads.paused_until:
                self._resumes_at = reads.time_after_pause()
            at = self._resumes_at
        return min(max(at - now, 0.0), LONGEST_PAUSE)

    def answered(self, polled_at: float, now: float, prediction: Prediction) -> None:
        """Note the answer, received `now`, to a poll that was sent at `polled_at`."""
        self._polled(polled_at)
        if not prediction.ended:
            self._running_at = polled_at
        elif prediction.image_url is not None:
            self._learn(now - self._since, prediction.took)

    def failed(self, polled_at: float, now: float, *, wait: float, throttled: bool) -> None:
        """Note a poll without a usable answer. `wait`: seconds that it asks for; `throttled`: of all reads (a 429)."""
        self._polled(polled_at)
        self._wait_until = now + wait
        if throttled:
            self._history.reads.refused(now, wait)

    def _polled(self, polled_at: float) -> None:
        """Note that a poll was made. If it was aimed and came too early, follow-ups come soon."""
        age = polled_at - self._since
        self._follow_up = max(FOLLOW_UP, FOLLOW_UP_GROWTH * age) if self._aimed else 2.0 * self._follow_up
        if self._follow_up >= max(GAP, GROWTH * age):
            self._follow_up = inf
        if self._bound_at is not None and polled_at < self._bound_at:
            self._history.reads.give_back()
        self._polled_at, self._bound_at = polled_at, None

    def _learn(self, seen: float, took: float | None) -> None:
        """Learn the age at which the prediction ended. It lies between the last poll that found it running and `seen`.

        It ended `took` seconds after its creation, and the creation was at some time during the create. If that is
        later than `seen`, one of the clocks stood still or was set, and nothing is learnt. If the provider still showed
        it as running after its end, it counts as ended when its end was first shown.
        """
        running = self._running_at - self._since
        if self._bought_in is None:
            return
        if took is None or took < running:
            if seen - running <= NARROW * max(GAP, GROWTH * running):
                self._history.learn((running + seen) / 2.0)
        elif took - self._bought_in <= seen + FOLLOW_UP:
            self._history.learn((max(running, took - self._bought_in) + min(seen, took)) / 2.0)
