"""When to look whether a prediction has ended.

The next look is the earlier one of these two:

1. The bound. From one look to the next at most half a second passes, or a seventh of the prediction's age if that is
   more. So an end is noticed within half a second or a seventh of the generation's own time, whatever was learnt.
2. The aim. A look is aimed just behind a learnt end, at the place that saves the most waiting, if it saves enough.
   When it comes too early, others follow it soon, each after twice the time of the one before.

What is learnt is when the last predictions ended, not when somebody looked: the provider tells how long each took.

A model that always takes as long costs one look more than the bound alone needs: three for a generation of a second,
five for two seconds, fifteen for eight. Fewer cannot keep the bound, because an end may come at any time. The looks of
the bound are the reads to spare (`reads.py`); 10 predictions in flight always have enough of them. Where there are too
few, a look of the bound waits for one, up to ten seconds and the age, and the aimed looks go on: about three a
prediction.
"""

from __future__ import annotations

from collections import deque
from itertools import count
from math import inf
from typing import TYPE_CHECKING

from reactor.backoff import jittered
from reactor.providers.read_budget import ReadBudget

if TYPE_CHECKING:
    from reactor.providers import Prediction

GAP, GROWTH = 0.45, 0.125  # seconds, and of the age: less than promised, because jitter and the answer take their share
JITTER = 0.05  # of a gap
FIRST = 0.15  # seconds to the first look where nothing is known of the model or of the prediction's age
SOON, SOON_GROWTH = 0.05, 0.02  # seconds, and of the age: from an aimed look that came too early to the next
MARGIN = 0.01  # seconds after a learnt end
ASK_AGAIN = 5.0  # seconds: more may have been learnt by then
LONGEST_WAIT = 10.0  # seconds, and the age: for a read to spare
WORTH = 0.05  # of the time to the next look of the bound: what an aimed look must save on average
NARROW = 2.0  # gaps: how much time may lie between two looks to tell, without the provider's times, when it ended
REMEMBERED = 20  # predictions


class Looks:
    """Learns how long a model takes. Ages are seconds since the create was answered."""

    def __init__(self) -> None:
        self.reads = ReadBudget()
        self._ends: deque[float] = deque(maxlen=REMEMBERED)

    @property
    def taught(self) -> bool:
        """Whether anything is known of the model."""
        return bool(self._ends)

    def learn(self, age: float) -> None:
        """A prediction ended at this age."""
        self._ends.append(age)

    def aim(self, age: float, latest: float) -> float | None:
        """The age, between `age` and `latest`, at which a look saves the most; None where it saves too little.

        A look at a learnt end saves all predictions that end by then the wait until `latest`.
        """
        ahead = sorted(end for end in self._ends if end > age)
        places = (max(end + MARGIN, age + SOON) for end in ahead)
        saved, place = max(
            ((ended * (latest - place), place) for ended, place in zip(count(1), places, strict=False)),
            default=(0.0, 0.0),
        )
        return place if saved > WORTH * (latest - age) * len(ahead) else None


class Watch:
    """The looks at one prediction. Moments are seconds of the caller's monotonic clock; a watch begins at `now`.

    `bought_in` is how long its create took. It is None where somebody else bought it: then its age is unknown.
    """

    def __init__(self, looks: Looks, now: float, *, bought_in: float | None) -> None:
        self._looks = looks
        self._since = self._looked_at = self._running_at = now
        self._bought_in = bought_in
        self._soon = inf if looks.taught and bought_in is not None else FIRST  # seconds from the last look to the next
        self._aimed = False  # the next look
        self._bound: float | None = None  # moment of the look that the bound asks for, if no other comes before it
        self._wait_until = self._turn = -inf

    def pause(self, now: float) -> float:
        """Seconds until to ask again; 0: look now."""
        reads, age = self._looks.reads, self._looked_at - self._since
        if self._bound is None:
            due = self._looked_at + jittered(max(GAP, GROWTH * age), JITTER)
            self._bound = min(reads.book(now, due), due + LONGEST_WAIT + age)
        aim = None if self._bought_in is None else self._looks.aim(age, self._bound - self._since)
        self._aimed = aim is not None
        at = self._looked_at + self._soon if aim is None else self._since + aim
        at = max(min(at, self._bound), self._wait_until)
        if at <= reads.shut_until:
            self._turn = at = self._turn if self._turn > reads.shut_until else reads.turn()
        return min(max(at - now, 0.0), ASK_AGAIN)

    def looked(self, looked_at: float, now: float, prediction: Prediction) -> None:
        """A look that was sent at `looked_at` and answered now found this."""
        self._done(looked_at)
        if not prediction.ended:
            self._running_at = looked_at
        elif prediction.image_url is not None:
            self._learn(now - self._since, prediction.took)

    def failed(self, looked_at: float, now: float, *, wait: float, throttled: bool) -> None:
        """A look got no answer, or one that asks to `wait`; `throttled`: as all who read."""
        self._done(looked_at)
        self._wait_until = now + wait
        if throttled:
            self._looks.reads.refused(now, wait)

    def _done(self, looked_at: float) -> None:
        """A look was made. One that was aimed, and came too early, is soon followed by others."""
        age = looked_at - self._since
        self._soon = max(SOON, SOON_GROWTH * age) if self._aimed else 2.0 * self._soon
        if self._soon >= max(GAP, GROWTH * age):
            self._soon = inf
        if self._bound is not None and looked_at < self._bound:
            self._looks.reads.give_back()
        self._looked_at, self._bound = looked_at, None

    def _learn(self, seen: float, took: float | None) -> None:
        """Learn the age at which it ended: after the last look that found it running, and before it was `seen`.

        It ended `took` seconds after the provider created it, which was while the create was under way. Where that is
        later than the end was seen, one of the clocks stood still or was set, and nothing is learnt. A prediction that
        the provider still showed as running after its end counts as ended once it was shown.
        """
        running = self._running_at - self._since
        if self._bought_in is None:
            return
        if took is None or took < running:
            if seen - running <= NARROW * max(GAP, GROWTH * running):
                self._looks.learn((running + seen) / 2.0)
        elif took - self._bought_in <= seen + SOON:
            self._looks.learn((max(running, took - self._bought_in) + min(seen, took)) / 2.0)
