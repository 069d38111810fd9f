"""h. A mint after a quiet time, the provider behind TLS: from its commit to its request there, beside 20 a second."""

import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from bench import subjects
from bench.bench import percentiles
from bench.child import Child
from bench.scenarios.reaction import SLOTS, WARM_UP, steady
from bench.scenarios.setting import provided, settled_in, worker

BOTH = (subjects.FLOOR_HTTPX, subjects.REACTOR_SDK)
MINTS = 3  # each after a quiet time, all subjects' in the same one


@dataclass
class Side:
    """A subject at work, with a provider of its own."""

    case: str
    name: str
    provider: Any
    producer: Any
    minted: int = 0

    def reactions(self, count):
        """Seconds from the commit to the request, of so many mints at 20 a second."""
        self.provider.ask("forget")
        commits = dict(steady(self.producer, self.minted, count))
        self.minted += count
        time.sleep(0.5)
        starts = self.provider.starts()
        return [starts[number] - commit for number, commit in commits.items()]


def run(bench):
    closes = max(4.5, bench.quiet / 4)  # seconds: earlier than the next mint, so that nothing idle survives
    with ExitStack() as stack:
        authorities = stack.enter_context(tempfile.TemporaryDirectory())
        sides = []
        for case, seconds in ((f"closed at {closes:g} s", closes), ("never closed", None)):
            urls = stack.enter_context(settled_in(bench, BOTH))
            for subject in BOTH:
                authority = f"{authorities}/{len(sides)}.pem"
                how = {"authority": authority, "closes": seconds}
                provider, base_url = stack.enter_context(provided("bare", **how))
                url = urls[subject.name]
                stack.enter_context(worker(subject, url, SLOTS, base_url, authority))
                producer = stack.enter_context(Child("bench.producer", url=url, mint=subject.mint))
                sides.append(Side(case, subject.name, provider, producer))
        for side in sides:
            side.reactions(WARM_UP)
        for _ in range(bench.repetitions):
            compare(bench, sides)


def compare(bench, sides):
    with ExitStack() as stack:
        # What is entered last is told first.
        told = [stack.enter_context(bench.measuring("h. quiet", side.case, side.name)) for side in reversed(sides)]
        told.reverse()
        for side, figures in zip(sides, told, strict=True):
            figures["busy_ms"] = percentiles(side.reactions(60 if bench.quick else 200))["p50_ms"]
        seconds = [[] for _ in sides]
        for _ in range(MINTS):
            time.sleep(bench.quiet)
            for side, took in zip(sides, seconds, strict=True):
                took.extend(side.reactions(1))
        for figures, took in zip(told, seconds, strict=True):
            figures["quiet_ms"] = 1000 * statistics.median(took)
            figures["quiet_by_busy"] = figures["quiet_ms"] / figures["busy_ms"]
