"""Workers in virtual time: their slots are full of predictions, and `Watch` decides when to look at them.

There is no clock, no loop and no socket. Worker and provider have different clocks, so the provider tells durations.
"""

import heapq
import itertools
import math
from dataclasses import dataclass, field

from reactor.providers import Prediction
from reactor.providers.polling import Looks, Watch

CREATE, MADE, ROUND_TRIP = 0.1, 0.04, 0.02  # seconds: a create; from its start to the prediction; a look
INSTANT = 1e-9  # seconds: the rounding error of floats
RUNNING = Prediction("p1", doing="processing")
ENOUGH = 20_000  # looks at one prediction: a schedule with more is broken


@dataclass
class Seen:
    """One prediction: its duration, how much later its end was noticed, after how many looks, and at which moment."""

    took: float
    late: float = 0.0
    looks: int = 0
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
    looks: list = field(default_factory=list)
    seen: list = field(default_factory=list)

    def run(self):
        self.looks = self.looks or [Looks() for _ in range(self.workers)]
        order, due, next_create = itertools.count(), [], 0.0
        free = [(0.0, looks) for looks in self.looks for _ in range(self.slots)]
        while due or free:
            for now, looks in free:
                took = self.take(now)
                if took is not None:
                    next_create = max(next_create + 1.0 / self.creates, now)
                    answered = next_create + CREATE
                    watch = Watch(looks, answered, bought_in=CREATE)
                    told = Seen(took, at=max(self._outside(next_create + MADE) + took, self._outside(answered)))
                    heapq.heappush(due, (answered + watch.pause(answered), next(order), watch, told, looks))
            free = []
            if due:
                at, number, watch, told, looks = heapq.heappop(due)
                at = self.sleep.woken(at) if self.sleep else at
                if (pause := watch.pause(at)) > INSTANT:
                    heapq.heappush(due, (at + pause, number, watch, told, looks))
                    continue
                again = self._look(at, watch, told)
                if again is None:
                    free.append((at + ROUND_TRIP, looks))
                else:
                    heapq.heappush(due, (again, number, watch, told, looks))
        return self.seen

    def _outside(self, at):
        return self.sleep.outside(at) if self.sleep else at

    def _look(self, at, watch, told):
        """When to look again; None if the prediction has ended."""
        told.looks += 1
        assert told.looks < ENOUGH
        answered = at + ROUND_TRIP
        if self.limit and (wait := self.limit.wait(at)):
            watch.failed(at, answered, wait=wait, throttled=True)
            return answered + watch.pause(answered)
        if self._outside(at + ROUND_TRIP / 2) < told.at:
            watch.looked(at, answered, RUNNING)
            return answered + watch.pause(answered)
        watch.looked(at, answered, Prediction("p1", "https://x/1.webp", took=told.took if self.tells else None))
        told.late, told.at = self._outside(answered) - told.at, answered
        self.seen.append(told)
        return None


def times(*spells):
    """Each `(count, seconds)` in turn, as `take`; seconds may be a function without arguments."""
    drawn = (one() if callable(one) else one for count, one in spells for _ in range(count))
    return lambda _now: next(drawn, None)


def promised(took):
    """The most seconds from an end to its notice, with a round trip for the look that notices it."""
    return max(0.5, took / 7) + ROUND_TRIP


def taught(*ends):
    learning = Looks()
    for end in ends:
        learning.learn(end)
    return learning


def next_look(watch, now):
    """The moment of the next look, if nothing else is learnt before."""
    while (pause := watch.pause(now)) > INSTANT:
        now += pause
    return now


def ages(learning, until, *, bought_in=0.1):
    """The ages of the looks at one prediction that never ends."""
    watch, age, looked = Watch(learning, 0.0, bought_in=bought_in), 0.0, []
    while age < until:
        age = next_look(watch, age)
        looked.append(age)
        watch.looked(age, age, RUNNING)
    return looked
