"""Workers in virtual time: slots full of predictions, polled when `PollSchedule` says so. No clock, loop or socket.

The worker's clock is not the provider's, so the provider tells durations only.
"""

import heapq
import itertools
import math
from dataclasses import dataclass, field

from reactor.providers import Prediction
from reactor.providers.polling import PollHistory, PollSchedule

CREATE, MADE, ROUND_TRIP = 0.1, 0.04, 0.02  # seconds: a create; from its start to the prediction; a poll
INSTANT = 1e-9  # seconds: what floats lose
RUNNING = Prediction("p1", doing="processing")
MOST_POLLS = 20_000  # a schedule that wants more is broken


@dataclass
class Seen:
    """One prediction: its duration, how much later its end was noticed, after how many looks, and at which moment."""

    took: float
    late: float = 0.0
    polls: int = 0
    at: float = 0.0


@dataclass
class Limit:
    """The account's limit of reads. A read above it is answered with 429 and whole seconds to wait."""

    per_second: float = 50.0
    burst: float = 500.0
    refused: int = 0
    _arrival: float = 0.0

    def wait(self, now):
        arrival = max(self._arrival, now)
        wait = arrival - self.burst / self.per_second - now
        if wait > 0:
            self.refused += 1
            return float(math.ceil(wait))
        self._arrival = arrival + 1.0 / self.per_second
        return 0.0


@dataclass
class Sleep:
    """The host sleeps from `begins` for `seconds`. Its clock goes on meanwhile, or stands still."""

    begins: float
    seconds: float
    clock_goes_on: bool

    def woken(self, at):
        """When something due `at` this moment really happens, both by the host's clock."""
        asleep = self.clock_goes_on and self.begins < at < self.begins + self.seconds
        return self.begins + self.seconds if asleep else at

    def outside(self, at):
        """The provider's time at this moment of the host's clock."""
        return at if self.clock_goes_on or at < self.begins else at + self.seconds


@dataclass
class Workers:
    """`take` returns the next prediction's seconds, given the moment; with None, buying ends."""

    take: object
    slots: int = 10
    workers: int = 1
    tells: bool = True  # whether the provider tells its predictions' times
    limit: Limit | None = None
    creates: float = math.inf  # creates per second for the account
    sleep: Sleep | None = None
    histories: list = field(default_factory=list)
    seen: list = field(default_factory=list)

    def run(self):
        self.histories = self.histories or [PollHistory() for _ in range(self.workers)]
        order, due, next_create = itertools.count(), [], 0.0
        free = [(0.0, history) for history in self.histories for _ in range(self.slots)]
        while due or free:
            for now, history in free:
                took = self.take(now)
                if took is not None:
                    next_create = max(next_create + 1.0 / self.creates, now)
                    answered = next_create + CREATE
                    schedule = PollSchedule(history, answered, bought_in=CREATE)
                    seen = Seen(took, at=max(self._outside(next_create + MADE) + took, self._outside(answered)))
                    heapq.heappush(due, (answered + schedule.pause(answered), next(order), schedule, seen, history))
            free = []
            if due:
                at, number, schedule, seen, history = heapq.heappop(due)
                at = self.sleep.woken(at) if self.sleep else at
                if (pause := schedule.pause(at)) > INSTANT:
                    heapq.heappush(due, (at + pause, number, schedule, seen, history))
                    continue
                again = self._poll(at, schedule, seen)
                if again is None:
                    free.append((at + ROUND_TRIP, history))
                else:
                    heapq.heappush(due, (again, number, schedule, seen, history))
        return self.seen

    def _outside(self, at):
        return self.sleep.outside(at) if self.sleep else at

    def _poll(self, at, schedule, seen):
        """When to poll again; None if it has ended."""
        seen.polls += 1
        assert seen.polls < MOST_POLLS
        answered = at + ROUND_TRIP
        if self.limit and (wait := self.limit.wait(at)):
            schedule.failed(at, answered, wait=wait, throttled=True)
            return answered + schedule.pause(answered)
        if self._outside(at + ROUND_TRIP / 2) < seen.at:
            schedule.answered(at, answered, RUNNING)
            return answered + schedule.pause(answered)
        schedule.answered(at, answered, Prediction("p1", "https://x/1.webp", took=seen.took if self.tells else None))
        seen.late, seen.at = self._outside(answered) - seen.at, answered
        self.seen.append(seen)
        return None


def times(*spells):
    """Each `(count, seconds)` in turn, as `take`; seconds may be a function without arguments."""
    drawn = (one() if callable(one) else one for count, one in spells for _ in range(count))
    return lambda _now: next(drawn, None)


def promised(took):
    """The most seconds from an end to its notice, with a round trip for the look that notices it."""
    return max(0.5, took / 7) + ROUND_TRIP


def taught(*ends):
    history = PollHistory()
    for end in ends:
        history.learn(end)
    return history


def next_poll(schedule, now):
    """The time of the next poll, if nothing more is learnt until then."""
    while (pause := schedule.pause(now)) > INSTANT:
        now += pause
    return now


def ages(history, until, *, bought_in=0.1):
    """The ages of the polls of one prediction that never ends."""
    schedule, age, polled = PollSchedule(history, 0.0, bought_in=bought_in), 0.0, []
    while age < until:
        age = next_poll(schedule, age)
        polled.append(age)
        schedule.answered(age, age, RUNNING)
    return polled
