"""f. Several workers that wait on one table: what one mint costs the database, and how soon one of them starts."""

import time
from contextlib import ExitStack

from bench import subjects
from bench.bench import percentiles
from bench.child import Child
from bench.scenarios.counting import count_from_now_on, counter
from bench.scenarios.reaction import RATE, SLOTS, WARM_UP, steady
from bench.scenarios.setting import settled_in, worker

FLEETS = (1, 4, 16)


def run(bench):
    subject = subjects.REACTOR
    with settled_in(bench, [subject]) as urls:
        url = urls[subject.name]
        count_from_now_on(url)
        for workers in bench.rounds(FLEETS):
            subject.clean(url)
            with ExitStack() as stack:
                calls = stack.enter_context(counter(url))
                fleet = [stack.enter_context(worker(subject, url, SLOTS)) for _ in range(workers)]
                producer = stack.enter_context(Child("bench.producer", url=url, mint=subject.mint))
                with_mints(bench, workers, fleet, producer, calls)


def with_mints(bench, workers, fleet, producer, calls):
    count = 60 if bench.quick else 200
    steady(producer, 1, WARM_UP)
    time.sleep(1)
    before, began = calls(), time.monotonic()
    time.sleep(count / RATE)
    idle = (calls() - before) / (time.monotonic() - began)
    with bench.measuring("f. fleet", "20/s", f"{workers} workers") as figures:
        before, began = calls(), time.monotonic()
        commits = dict(steady(producer, 1000, count))
        time.sleep(0.5)
        asked = calls() - before - idle * (time.monotonic() - began)  # beside what idle workers ask anyway
        figures["statements_per_mint"] = asked / count - 1  # the mint itself
        starts = {}
        for process in fleet:
            starts |= process.starts()
        figures.update(percentiles([starts[number] - commit for number, commit in commits.items()]))
